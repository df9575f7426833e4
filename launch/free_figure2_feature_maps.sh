#!/usr/bin/env bash
# FreeTickets, Figure 2 left: in which layers the networks of an ensemble differ. A picture for every seed, beside the
# table of the rows, which are those of Table 7.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_sparse_ensembles.sh"

ensembles=()
compared() { ensembles+=("$row"); }

sparse_ensembles compared
drawn features "${ensembles[@]}"
report
