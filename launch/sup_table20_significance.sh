#!/usr/bin/env bash
# Sup-tickets, Table 20: is the difference to Sup-tickets significant? Kolmogorov-Smirnov test of 15 seeds.
seeds=$(seq -s " " 0 14)
source "$(dirname "$0")/table.sh" 250 "$@"

with_and_without vgg16 set rigl
report --significance
