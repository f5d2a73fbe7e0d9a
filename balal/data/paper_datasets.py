"""The four data sets of the paper, ready to load: how each is stored, how it is cropped, and the
class sizes that make it imbalanced."""

from dataclasses import replace

from balal.data.layouts import DatasetInfo


def info(name: str) -> DatasetInfo:
    """The data set of that name: `cifar100`, `food101`, `imagenet100` or `mit67`.

    Its `counts` are one set of class sizes with the number of images, the mean, the population std
    and the imbalance ratio in Table 1 of Aggarwal, Popescu, Hudelot, WACV 2020. The paper gives
    neither the sizes themselves nor the hundred classes of ImageNet. A pool that follows them:

        cifar = data.info("cifar100")
        images = data.load(cifar, "~/tensorflow_datasets", part="pool")
        pool = data.select(images, balal.imbalance.subsample(key, images.labels, cifar.counts))

    `mit67` comes imbalanced: its 15,620 images, less 20 a class for testing, are one fewer than
    Table 1 counts. Use that pool whole; its counts are only for comparison, and a class may have
    fewer. Test sets are balanced: 100 images a class in `cifar100`, 250 in `food101`, 20 in
    `mit67`, and what you put there in `imagenet100`.

    Raises: ValueError for any other name.

    >>> food = info("food101")
    >>> food.num_classes, sum(food.counts), food.crop
    (101, 22956, 'centre')
    """
    if name not in NAMES:
        raise ValueError(f"there is no data set {name!r}; there are {', '.join(NAMES)}")
    return replace(_INFOS[name], counts=tuple(int(size) for size in _COUNTS[name].split()))


_INFOS = {
    "cifar100": DatasetInfo("cifar100", 100, "tfds", "train", "test", "whole"),
    "food101": DatasetInfo("food101", 101, "tfds", "train", "validation", "centre"),
    "imagenet100": DatasetInfo("imagenet100", 100, "folders", "train", "test", "centre"),
    "mit67": DatasetInfo("mit67", 67, "list", None, "TestImages.txt", "centre"),
}
NAMES = tuple(_INFOS)
"""The names that `info` knows."""

# Images of each class in the pool, by class id.
_COUNTS = {
    "cifar100": """
        102 141 76 58 89 43 51 47 294 418 441 59 153 158 302 66 271 196 355 396 48 129 117 385 80 61
        406 166 53 41 466 119 126 134 327 212 63 365 85 171 190 138 87 145 49 176 207 82 65 44 94 52
        149 78 230 286 491 180 40 55 74 237 218 429 39 478 38 257 264 453 99 111 185 45 56 123 35
        108 375 319 162 37 68 250 70 36 92 243 224 72 105 114 42 97 346 336 34 201 278 310
    """,
    "food101": """
        377 159 91 68 504 50 59 54 336 673 550 70 172 177 366 79 308 224 423 356 56 145 129 411 97
        72 519 188 62 47 566 133 141 149 399 259 74 266 102 194 326 154 105 164 57 217 618 99 77 51
        534 61 317 94 346 635 125 167 45 64 88 230 475 205 44 436 43 693 290 282 599 582 118 53 66
        183 39 462 115 489 388 42 199 81 237 40 449 244 273 211 86 112 122 48 299 108 38 251 84 137
        654
    """,
    "imagenet100": """
        111 153 82 63 97 47 55 50 317 451 476 64 166 170 326 72 293 212 384 427 52 141 127 416 87 66
        439 180 58 44 503 130 136 145 354 229 68 394 91 185 206 149 94 157 53 190 223 89 70 48 102
        56 161 84 249 309 532 195 43 59 80 256 236 464 42 517 41 277 285 489 108 120 200 49 61 134
        37 117 405 344 175 40 74 270 76 38 99 263 242 78 113 123 45 105 373 363 36 217 301 335
    """,
    "mit67": """
        236 294 123 80 154 52 70 62 141 59 76 83 381 434 398 104 134 258 226 563 64 643 95 281 99 86
        167 190 73 47 113 588 217 208 495 517 91 320 615 182 349 539 174 129 67 269 45 335 474 43
        108 42 365 56 416 307 160 199 40 453 50 148 54 118 38 247 37
    """,
}
