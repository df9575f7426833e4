#!/usr/bin/env bash
# FreeTickets, Table 3: ensembles of ResNet-50 on ImageNet; the dense ones train for 150 epochs, to which FLOPs are
# relative, and the sparse ones learn from batches of 64 images. With --others DIR, DIR/ImageNet-C and DIR/imagenet-a,
# on corrupted and natural adversarial images.
source "$(dirname "$0")/table.sh" 100 "$@"

ensemble() {
    imagenet "$@"
    with_other --corruptions ImageNet-C
    with_other --adversarial imagenet-a
}

ensemble --epochs $(scaled 150)
ensemble --epochs $(scaled 150) --ensemble 4
ensemble --epochs $(scaled 150) $(efficient mimo 2) --input-repetition 0.6 --batch-repetitions 2
ensemble --epochs $(scaled 150) $(efficient treenet 2) --shared 0.67
ensemble --epochs $(scaled 150) $(efficient batchensemble 4) --fast-lr 0.25
batch=64
for tickets in 2 4; do
    ensemble $(sparse rigl 0.2) --edst --num-tickets $tickets --epochs $(scaled $((30 + 70 * tickets)))
done
ensemble $(sparse rigl 0.2) --ensemble 2 --epochs $(scaled 200) --lr-drops 0.3 0.6 0.9 --warmup 0.025
dense=$(scaled 150) report --counting rigl
