#!/usr/bin/env bash
# FreeTickets, Table 11: networks trained on CIFAR-10 tell its test images from SVHN, CIFAR-100 and noise.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_single_networks.sh"

singles_and_ensembles cifar10 out_of svhn cifar100 gaussian
report
