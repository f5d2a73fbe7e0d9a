"""Where images come from: folders, array files and prepared TensorFlow Datasets behind one
interface, and batches of them.

    from balal import data

    images = data.folder("photos/")
    for batch in data.batches(images, 32):
        ...

`import balal` imports nothing of this, and whatever is heavier than NumPy is imported only by the
functions that need it: Pillow to decode, tensorflow_datasets to find a prepared data set.
TensorFlow itself is never needed.
"""

from balal.data.array_record import tfds
from balal.data.batching import Batch, Damage, batches
from balal.data.decoding import decode
from balal.data.folders import Choose, folder
from balal.data.images import Images, relabel, select
from balal.data.layouts import DatasetInfo, load
from balal.data.numpy_files import arrays
from balal.data.paper_datasets import info

__all__ = [
    "Batch",
    "Choose",
    "Damage",
    "DatasetInfo",
    "Images",
    "arrays",
    "batches",
    "decode",
    "folder",
    "info",
    "load",
    "relabel",
    "select",
    "tfds",
]
