"""A registry reads like a dict, and refuses a key that is taken."""

import pytest

from rmpe_legacy.registry import Registry


def test_reads_like_a_dict():
    registry = Registry("animal")

    @registry.register("cat", "tiger")
    class Cat:
        pass

    registry.add("dog", "Rex")
    assert dict(registry) == {"cat": Cat, "tiger": Cat, "dog": "Rex"}
    assert registry.get("cow") is None
    assert len(registry) == 3


@pytest.mark.parametrize("keys", [("cat",), ("cow", "cat"), ("cow", "cow")])
def test_a_key_can_be_taken_once(keys):
    registry = Registry("animal")

    @registry.register("cat")
    class Cat:
        pass

    def second():
        pass

    with pytest.raises(ValueError, match=r"animal '(cat|cow)' is taken by "):
        registry.register(*keys)(second)
    assert registry["cat"] is Cat


def test_a_key_can_be_forgotten_and_taken_again():
    registry = Registry("animal")
    registry.add("cat", 1)
    assert registry.pop("cat") == 1
    assert registry.pop("cat") is None
    registry.add("cat", 2)
    assert registry["cat"] == 2
