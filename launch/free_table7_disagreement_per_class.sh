#!/usr/bin/env bash
# FreeTickets, Table 7: how much the networks of an ensemble disagree on the images of each class of CIFAR-100, of which
# the paper shows the first ten. A table for every run.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_sparse_ensembles.sh"

sparse_ensembles evaluated --per-class
figures=no report
