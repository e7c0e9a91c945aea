import pytest


@pytest.fixture
def file(request, tmp_path):
    """The path of a prototxt with the text NET of the test's module."""
    path = tmp_path / "net.prototxt"
    path.write_text(request.module.NET)
    return str(path)
