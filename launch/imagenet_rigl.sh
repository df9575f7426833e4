#!/usr/bin/env bash
# Table 3 of the Sup-tickets paper: RigL. Options as in imagenet_table.sh.
exec bash "$(dirname "$0")/imagenet_table.sh" rigl "$@"
