#!/usr/bin/env bash
# FreeTickets, Table 8: over the sparsities of Figure 4, whose rows these are, how the accuracy of an ensemble goes with
# the mean accuracy of its networks.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_sparsities.sh"

figures=no report --correlation
