#!/usr/bin/env bash
# FreeTickets, Table 7: how much the networks of an ensemble disagree on the images of each class of CIFAR-100, of which
# the paper shows the first ten. A table for every run.
source "$(dirname "$0")/table.sh" 250 "$@"

ensemble() {
    cifar cifar100 wrn28-10 $(sparse "$1" 0.2) "${@:2}"
    evaluated --per-class
}

cifar cifar100 wrn28-10 $(sparse gmp 0.2) --save-early 0.05 # the run that the next one rewinds
ensemble static --rewind "$row/seed-SEED" --ensemble 3
ensemble rigl $(edst 3)
ensemble static --ensemble 3
ensemble rigl --ensemble 3
figures=no report
