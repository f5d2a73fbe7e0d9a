"""Where images come from: folders, array files and prepared TensorFlow Datasets behind one
interface, and batches of them.

    from balal import data

    pictures = data.folder("photos/")
    for batch in data.batches(pictures, 32):
        ...

`cache` keeps what a source model made of the images. Nothing here is imported by `import balal`,
and nothing heavier than NumPy before a
function that needs it is called: Pillow to decode, tensorflow_datasets to find a prepared data set.
TensorFlow itself is never needed.
"""

from balal.data.array_files import arrays
from balal.data.batching import Batch, Damage, batches
from balal.data.decoding import decode
from balal.data.folders import folder
from balal.data.images import Images, select
from balal.data.prepared import tfds
from balal.data.profiles import Profile, load, profile

__all__ = [
    "Batch",
    "Damage",
    "Images",
    "Profile",
    "arrays",
    "batches",
    "decode",
    "folder",
    "load",
    "profile",
    "select",
    "tfds",
]
