"""Labels for a folder of pictures, in the formats that tools read."""

from wordmask.labelling.ledger import Part, Row
from wordmask.labelling.run import Labels, label_folder
from wordmask.labelling.settings import LabelError, LabelSettings
from wordmask.labelling.worker import Job

__all__ = ["Job", "LabelError", "LabelSettings", "Labels", "Part", "Row", "label_folder"]
