"""What does a source model make of your images? Their features and scores, computed once and kept in a folder.

    python -m experiments.extract --dataset=folder --data_dir=photos/ --source=efficientnet_lite0 --out=features/photos
    python -m experiments.extract --dataset=arrays --data_dir=pool.npz --source=tf_mobilenet_v2 --weights=weights.safetensors --crop=1
    python -m experiments.extract --dataset=cifar100 --data_dir=~/tensorflow_datasets --split=train --out=features/cifar100

Images go through the network once, threads decode while it computes, and memory stays bounded: 70 to 100 images a second on a CPU core.
Stop it when you like; the same command goes on after the last finished thousand, and the result is the same byte for byte. The folder says
what it was made from (network, sha256 of the weights, preprocessing, images), and is refused where something else is asked for.

Read it with `balal.data.cache.read(folder)`, or let `experiments.one_shot` and `experiments.pick` do all of it.
"""
