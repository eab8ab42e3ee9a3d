"""Labels for a folder of pictures, in the formats that tools read."""

from wordmask.labelling.ledger import Row
from wordmask.labelling.run import Labels, check_out, label_folder
from wordmask.labelling.settings import LabelError, LabelSettings
from wordmask.labelling.worker import Job
from wordmask.masks.instances import Part

__all__ = ["Job", "LabelError", "LabelSettings", "Labels", "Part", "Row", "check_out", "label_folder"]
