"""What is asked of a cluster's address before its library is."""

import pytest

from stoker.flows.runners.clusters import ClusterUnavailable, _await_ray, check_address
from stoker.flows.services.prefect_server import free_port
from stoker.flows.settings import Settings


def test_an_address_where_nobody_answers_is_one_line() -> None:
    settings = Settings(runner="ray", ray_address=f"ray://127.0.0.1:{free_port()}")
    with pytest.raises(ClusterUnavailable, match="cannot be used: Connection refused; see that it runs, or change"):
        check_address(settings)


def test_a_ray_cluster_with_tls_is_left_to_ray_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc")
    monkeypatch.setattr("stoker.flows.runners.clusters._CONNECT_S", 0.2)
    settings = Settings(runner="ray", ray_address=f"ray://127.0.0.1:{free_port()}")
    with pytest.raises(ClusterUnavailable, match="no answer in"):
        _await_ray(settings)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    _await_ray(settings)
