# Sourced: the rows of Figure 4 and Table 8 of FreeTickets, both ensembles at other sparsities.
for data in cifar10 cifar100; do
    for density in 0.5 0.4 0.3 0.2 0.1 0.05; do
        cifar $data wrn28-10 $(sparse rigl $density) $(edst 3)
        cifar $data wrn28-10 $(sparse rigl $density) --ensemble 3
    done
done
