"""A program asks the REST service, and reads the masks without wordmask.

python examples/ask_the_service.py

The service runs in this process here; for one that `wordmask serve` started, give httpx.post its address.
"""

import io

from fastapi.testclient import TestClient
from PIL import Image
from pycocotools import mask as coco_mask

import wordmask
from wordmask.serving import build_app
from wordmask_world import draw_scene


def main() -> None:
    picture = io.BytesIO()
    Image.fromarray(draw_scene(21, 256, kind="pairs").image).save(picture, "PNG")
    app = build_app({"maskclip": wordmask.load("maskclip", preset="world")}, page=False)
    with TestClient(app) as client:
        answer = client.post(
            "/v1/segment",
            files={"image": picture.getvalue()},
            data={"names": ["boat", "water", "sky", "hedge"]},
        ).json()
        for mask in answer["masks"]:
            pixels = coco_mask.decode(mask["rle"])  # (H, W) of 0 and 1
            print(f"{mask['name']}: {pixels.mean():.0%} of the picture, score {mask['score']}")
        refused = client.post("/v1/segment", files={"image": b"no picture"}, data={"names": ["boat"]})
        print(refused.status_code, refused.json()["error"]["reason"])


if __name__ == "__main__":
    main()
