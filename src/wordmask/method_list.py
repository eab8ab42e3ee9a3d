"""The package's own methods, one entry each: what is known of a method before it is imported.

A new method is one entry of `METHODS`; `wordmask.methods` finds and loads them, and those of plug-ins beside them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from wordmask.cards import BLANK, Card, cards
from wordmask.errors import WordmaskError
from wordmask.text_files import shown

Kind = Literal["segmenter", "saliency", "refinement", "regions"]
NO_WEIGHTS = "no weights"
"""In place of their licence."""


class MethodError(WordmaskError):
    """No such method, preset or setting."""


@dataclass(frozen=True)
class Method:
    """What is known of a method before it is imported.

    at: "module:attribute" of the class, a `Segmenter` or a `Saliency`; of a refinement of names' scores, of a
    `wordmask.refinement.by_name.Refiner`, of patches' scores, of `wordmask.refinement.lposs.Lposs`. paper: whose it is.
    about: what it does, in a few words. needs: which networks, and what else. licence: of the weights that the preset
    "paper" loads. refines: what a refinement is for; "names" are scores of pixels, "patches" those of windows' patches.
    brings: of a segmenter of a plug-in, what it is to be chosen by; `card` has it, or what `data/methods.toml` says.
    """

    name: str
    kind: Kind
    at: str
    paper: str
    about: str = ""
    needs: str = "nothing"
    licence: str = "unknown"
    refines: tuple[Literal["names", "patches", "saliency"], ...] = ("names",)
    brings: Card | None = None

    @property
    def card(self) -> Card:
        """What is published of it and what it takes."""
        own = cards() if self.kind == "segmenter" and self in METHODS else {}
        return self.brings or own.get(self.name, BLANK)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise MethodError(f"{self.name}: no kind of methods is called {shown(self.kind)}; choose one of {known}")


_SEGMENTERS = "wordmask.segmenters"
_SALIENCY = "wordmask.saliency"
_REGIONS = "wordmask.regions"
METHODS = (
    Method(
        "maskclip",
        "segmenter",
        f"{_SEGMENTERS}.maskclip:MaskClip",
        "Zhou et al., ECCV 2022",
        "CLIP's patches, each by its nearest name",
        "CLIP ViT-B/16",
        "MIT (OpenCLIP)",
    ),
    Method(
        "clip-diy",
        "segmenter",
        f"{_SEGMENTERS}.clip_diy:ClipDiy",
        "Wysoczańska et al., WACV 2024",
        "CLIP on windows of several sizes, times what is an object",
        "CLIP ViT-B/32, FOUND",
        "MIT (OpenCLIP), Apache-2.0 (DINO, FOUND)",
    ),
    Method(
        "clip-dinoiser",
        "segmenter",
        f"{_SEGMENTERS}.clip_dinoiser:ClipDinoiser",
        "Wysoczańska et al., ECCV 2024",
        "CLIP's patches, pooled where DINO sees one thing",
        "CLIP ViT-B/16, two trained layers",
        "MIT (OpenCLIP), Apache-2.0 (CLIP-DINOiser)",
    ),
    Method(
        "sclip",
        "segmenter",
        f"{_SEGMENTERS}.sclip:Sclip",
        "Wang et al., ECCV 2024",
        "CLIP's patches, which attend to those that ask or answer alike",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "clearclip",
        "segmenter",
        f"{_SEGMENTERS}.clearclip:ClearClip",
        "Lan et al., ECCV 2024",
        "the same by queries alone, without the residual that makes noise",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "naclip",
        "segmenter",
        f"{_SEGMENTERS}.naclip:NaClip",
        "Hajimiri et al., WACV 2025",
        "CLIP's patches attend to like ones nearby; then PAMR",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "sc-clip",
        "segmenter",
        f"{_SEGMENTERS}.sc_clip:ScClip",
        "Bai et al., 2024",
        "CLIP's patches without anomalies, averaged by its middle blocks",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "resclip",
        "segmenter",
        f"{_SEGMENTERS}.resclip:ResClip",
        "Yang et al., CVPR 2025",
        "NACLIP guided by middle blocks and by a first answer of its own",
        "CLIP ViT-B/16",
        "MIT (OpenAI's CLIP)",
    ),
    Method(
        "proxyclip",
        "segmenter",
        f"{_SEGMENTERS}.proxyclip:ProxyClip",
        "Lan et al., ECCV 2024",
        "CLIP's patches, mixed where DINO sees them alike",
        "CLIP ViT-B/16, DINO ViT-B/8",
        "MIT (OpenAI's CLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "lposs",
        "segmenter",
        f"{_SEGMENTERS}.lposs:LpossSegmenter",
        "Stojnić et al., CVPR 2025",
        "CLIP's patches, whose names spread to those that DINO sees alike",
        "CLIP ViT-B/16, DINO ViT-B/16",
        "MIT (OpenCLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "corrclip",
        "segmenter",
        f"{_SEGMENTERS}.corrclip:CorrClip",
        "Zhang et al., ICCV 2025",
        "CLIP's patches, which listen to those of their own region",
        "CLIP ViT-B/16, DINO ViT-B/8, a maker of regions",
        "CC-BY-NC-4.0 (MetaCLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "talk2dino",
        "segmenter",
        f"{_SEGMENTERS}.talk2dino:Talk2Dino",
        "Barsellotti et al., ICCV 2025",
        "DINOv2's patches, and words mapped among them by what captions taught",
        "DINOv2 ViT-B/14 with registers, CLIP ViT-B/16's words, two trained layers",
        "Apache-2.0 (DINOv2, Talk2DINO), MIT (OpenAI's CLIP)",
    ),
    Method(
        "tipsv2",
        "segmenter",
        f"{_SEGMENTERS}.tipsv2:TipsV2",
        "Google DeepMind, 2026",
        "patches that were trained to lie among words, read by their values",
        "TIPSv2 ViT-L/14 with its words, sentencepiece",
        "Apache-2.0 (TIPSv2)",
    ),
    Method(
        "dinotxt",
        "segmenter",
        f"{_SEGMENTERS}.dinotxt:DinoTxt",
        "Jose et al., CVPR 2025",
        "DINOv3's patches, brought among words by two trained blocks",
        "DINOv3 ViT-L/16, and its file of blocks and words (an address by mail)",
        "DINOv3 License",
    ),
    Method(
        "reco",
        "segmenter",
        f"{_SEGMENTERS}.reco:ReCo",
        "Shin et al., NeurIPS 2022",
        "names learnt from an archive of pictures",
        "CLIP RN50x16, CLIP ViT-L/14 at 336 pixels, DINO ViT-S/16, pictures of the names",
        "MIT (OpenAI's CLIP), Apache-2.0 (DINO)",
    ),
    Method(
        "selfmask-clip",
        "segmenter",
        f"{_SEGMENTERS}.saliency_clip:SaliencyClip",
        "NamedMask's baseline",
        "one mask of what is salient, named by CLIP",
        "CLIP ViT-L/14 at 336 pixels, SelfMask",
        "MIT (OpenAI's CLIP, SelfMask)",
    ),
    Method(
        "namedmask",
        "segmenter",
        f"{_SEGMENTERS}.namedmask:NamedMask",
        "Shin et al., CVPRW 2023",
        "a student of `wordmask distill`, by its own names",
        "a student: one of the paper's, or your own",
        "MIT (NamedMask)",
    ),
    Method(
        "found",
        "saliency",
        f"{_SALIENCY}.found:Found",
        "Simeoni et al., CVPR 2023",
        "one convolution on DINO's keys, taught by the seed",
        "DINO ViT-S/8, one trained layer",
        "Apache-2.0 (DINO, FOUND)",
    ),
    Method(
        "seed",
        "saliency",
        f"{_SALIENCY}.found:SeedSaliency",
        "FOUND's background seed, untrained",
        "all that is unlike the patch that DINO attends to least",
        "DINO ViT-S/8",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "selfmask",
        "saliency",
        f"{_SALIENCY}.selfmask:SelfMask",
        "Shin et al., CVPRW 2022",
        "queries that ask a transformer's patches for objects",
        "SelfMask's network",
        "MIT (SelfMask)",
    ),
    Method(
        "spectral",
        "saliency",
        f"{_SALIENCY}.spectral_voting:VotedMasks",
        "SelfMask's voted clusters, untrained",
        "what many clusterings of DINO's features agree on",
        "DINO ViT-S/16",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "pamr",
        "refinement",
        "wordmask.refinement.by_name:by_pamr",
        "Araslanov and Roth, CVPR 2020",
        "names' scores flow between pixels of like colour",
        licence=NO_WEIGHTS,
    ),
    Method(
        "solver",
        "refinement",
        "wordmask.refinement.by_name:by_solver",
        "Barron and Poole, ECCV 2016",
        "maps made smooth within the edges of the picture",
        licence=NO_WEIGHTS,
        refines=("names", "saliency"),
    ),
    Method(
        "lposs",
        "refinement",
        "wordmask.refinement.lposs:Lposs",
        "Stojnić et al., CVPR 2025",
        "patches' scores spread to patches that DINO sees alike",
        "DINO ViT-B/16",
        "Apache-2.0 (DINO)",
        refines=("patches",),
    ),
    Method(
        "lposs+",
        "refinement",
        "wordmask.refinement.lposs:Lposs",
        "Stojnić et al., CVPR 2025",
        "the same, and then pixels' scores to pixels nearby of like colour",
        "DINO ViT-B/16",
        "Apache-2.0 (DINO)",
        refines=("patches",),
    ),
    Method(
        "found",
        "refinement",
        "wordmask.refinement.clean_up:found_mask",
        "Simeoni et al., CVPR 2023",
        "the solver's mask without holes, where it agrees with the one before",
        licence=NO_WEIGHTS,
        refines=("saliency",),
    ),
    Method(
        "panoptic-cut",
        "regions",
        f"{_REGIONS}.panoptic_cut:PanopticCut",
        "Kang and Cho, ECCV 2024",
        "objects cut out of DINO's patches, one after the other",
        "DINO ViT-B/8",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "spectral-regions",
        "regions",
        f"{_REGIONS}.spectral:SpectralRegions",
        "SelfMask's clusters, untrained",
        "connected parts of clusters of DINO's patches",
        "DINO ViT-S/16",
        "Apache-2.0 (DINO)",
    ),
    Method(
        "sam",
        "regions",
        f"{_REGIONS}.sam:SamRegions",
        "Ravi et al., ICLR 2025",
        "SAM 2 or SAM 3: trained on masks, so not free of annotations",
        "SAM 2 Hiera-L, transformers",
        "Apache-2.0 (SAM 2)",
    ),
)
