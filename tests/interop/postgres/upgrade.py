"""Two servers on one database are upgraded one after the other, and back, while others write."""

from cluster import Cluster
from writers import Pair, Writers

# Neighbours; as there is only one version to build, programs go by another one.
OLD, NEW = "0.7.3", "0.8.0"


def servers_of_two_versions_take_turns_and_lose_nothing():
    with Cluster() as cluster, Pair(cluster.new("vault")) as world:
        with Writers(world) as writers:
            for version in (OLD, NEW, OLD):
                for n in (0, 1):
                    writers.go_on()
                    world.servers[n].terminate()
                    assert world.servers[n].wait(60) == 0, world.log()
                    world.version[n] = version
                    world.serve(n)
                writers.go_on()
                writers.are_there()
        writers.are_once()
        world.is_whole()


CHECKS = [servers_of_two_versions_take_turns_and_lose_nothing]
