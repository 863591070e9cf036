"""What the API server was asked, by verb and answer."""

import pytest

from living_cluster import LivingCluster
from podcam.agent.requests import CountedApi
from podcam.errors import ConflictError, NotFoundError, UnreachableError
from podcam.kube import PODS, list_objects, path_of

POD = {"metadata": {"namespace": "shop", "name": "web-1"}}


def test_requests_are_counted_by_verb_and_answer() -> None:
    with LivingCluster() as cluster:
        pods = path_of(PODS, "shop")
        with CountedApi.at(cluster.url) as api:
            api.create(pods, POD)
            with pytest.raises(ConflictError):
                api.create(pods, POD)
            api.apply(f"{pods}/web-1", {"status": {}}, manager="m", force=True, subresource="status")
            page = list_objects(api, PODS)
            api.watch(path_of(PODS), {"watch": "1", "resourceVersion": page.version}, silence_seconds=9)
            api.delete(f"{pods}/web-1")
            with pytest.raises(NotFoundError):
                api.apply(f"{pods}/web-1", {"status": {}}, manager="m", subresource="status")
            cluster.away()
            with pytest.raises(UnreachableError):
                api.get(f"{pods}/web-1")
            assert api.answers == {
                ("create", "ok"): 1,
                ("create", "409"): 1,
                ("apply", "ok"): 1,
                ("apply", "404"): 1,
                ("list", "ok"): 1,
                ("watch", "ok"): 1,
                ("delete", "ok"): 1,
                ("get", "unreachable"): 1,
            }
