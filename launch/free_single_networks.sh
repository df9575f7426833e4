# Sourced: the rows of Tables 11 to 13 of FreeTickets, single networks and ensembles on a data set; after each, what is
# given more.
singles_and_ensembles() {
    local data=$1 after=("${@:2}")
    network static 0.2
    network static 0.2 --ensemble 3
    network rigl 0.2
    network rigl 0.2 --ensemble 3
    network rigl 0.2 $(edst 1)
    network rigl 0.2 $(edst 3)
    network rigl 0.1 $(edst 1)
    network rigl 0.1 $(edst 7)
    cifar $data wrn28-10
    "${after[@]}"
}

network() {
    cifar $data wrn28-10 $(sparse "$1" "$2") "${@:3}"
    "${after[@]}"
}
