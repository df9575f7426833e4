#!/usr/bin/env bash
# FreeTickets, Figure 4: both ensembles at other sparsities.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_sparsities.sh"

report
