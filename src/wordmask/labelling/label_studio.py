"""Label Studio's tasks with pre-annotations: brush labels that an annotator corrects."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from wordmask.files import atomic_write
from wordmask.labelling.brush_rle import encode_brush
from wordmask.labelling.formats import LabelFormat, Labelled
from wordmask.labelling.ledger import Row
from wordmask.masks.palette import colours_of

FROM, TO = "brush", "image"


class LabelStudio(LabelFormat):
    """`tasks.json` to import, and `labelling_config.xml` for the project's labelling interface."""

    def write_picture(self, picture: Labelled) -> list[Any]:
        """Run lengths in the way of rle-pack, which differ from those of COCO."""
        height, width = picture.segmentation.size
        codes = []
        for instance in picture.instances:
            canvas = np.zeros((height, width), bool)
            instance.paste_into(canvas, 1)
            codes.append(encode_brush(canvas))
        return codes

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> None:
        with atomic_write(self.out / "tasks.json") as file:
            file.write(b"[")
            for index, row in enumerate(rows()):
                file.write((b",\n" if index else b"\n") + json.dumps(self._task(row)).encode())
            file.write(b"\n]\n")
        with atomic_write(self.out / "labelling_config.xml") as file:
            file.write(self._config().encode())

    def _task(self, row: Row) -> dict[str, Any]:
        url = self.settings.url_prefix + quote(os.fsencode(row.picture))
        results = [self._result(row, index) for index in range(len(row.parts))]
        prediction = {"model_version": "wordmask", "score": round(1 - row.unsure, 4), "result": results}
        return {"data": {TO: url}, "predictions": [prediction]}

    def _result(self, row: Row, index: int) -> dict[str, Any]:
        part = row.parts[index]
        result = {
            "id": f"part{index}",
            "type": "brushlabels",
            "from_name": FROM,
            "to_name": TO,
            "original_width": row.size[1],
            "original_height": row.size[0],
            "image_rotation": 0,
            "value": {"format": "rle", "rle": part.more, "brushlabels": [part.name]},
        }
        return result if part.score is None else {**result, "score": part.score}

    def _config(self) -> str:
        labels = "\n".join(
            f'    <Label value={quoteattr(name)} background="#{bytes(colour).hex()}"/>'
            for name, colour in zip(self.classes, colours_of(self.classes), strict=True)
        )
        return (
            f'<View>\n  <Image name="{TO}" value="${TO}" zoom="true"/>\n'
            f'  <BrushLabels name="{FROM}" toName="{TO}">\n{labels}\n  </BrushLabels>\n</View>\n'
        )
