"""Loading and unloading over HTTP: for who stands at the machine."""

from __future__ import annotations

from tests.api.harness import in_loop, serving


@in_loop
async def test_control_is_refused_where_others_can_reach_the_server() -> None:
    """Without keys nobody but who is on the machine itself may load or unload anything."""
    async with serving() as service:
        for path in ("/admin/refresh", "/admin/models/double/load", "/admin/models/double/versions/1/unload"):
            answer = await service.post(path, b"")
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await service.predict({"x": [1, 2]})).status_code == 200


@in_loop
async def test_unloaded_model_is_not_found_any_more() -> None:
    """Unloading drains, and the name is then as one that never was."""
    async with serving(allow_control=True) as service:
        gone = await service.post("/admin/models/double/unload", b"")
        assert [each["version"] for each in gone.json()["models"]] == ["1"]
        assert (await service.predict({"x": [1, 2]})).status_code == 404
        again = await service.post("/admin/models/double/unload", b"")
        assert again.status_code == 404
