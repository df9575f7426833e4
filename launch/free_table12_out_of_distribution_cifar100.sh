#!/usr/bin/env bash
# FreeTickets, Table 12: networks trained on CIFAR-100 tell its test images from SVHN, CIFAR-10 and noise.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_single_networks.sh"

singles_and_ensembles cifar100 out_of svhn cifar10 gaussian
report
