#!/usr/bin/env bash
# FreeTickets, Table 4: how much the predictions in an ensemble differ, rows of Tables 1 and 2.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_ensembles.sh"

ensembles cifar10
ensembles cifar100
report
