"""Steps written as in the file, and what they do."""

from typing import Any

from mqttproxy.config.load import parse_toml
from mqttproxy.config.structure import structure
from mqttproxy.config.transforms import Step
from mqttproxy.validation.transforms import Context, Transform, TransformError, compile_steps

KEY = b"a key of sixteen"
CONTEXT = Context("plant/7/temperature", {"line": "7"})


def steps(*texts: str) -> tuple[Step, ...]:
    """Return steps as they stand between the braces."""
    written = ", ".join(f"{{ {text} }}" for text in texts)
    upstream = (
        f'[[upstreams]]\nname = "a"\nurl = "mqtt://a"\n[[upstreams.transforms]]\ntopics = ["#"]\nsteps = [{written}]'
    )
    return structure(parse_toml(upstream, "f"), "f").upstreams[0].transforms[0].steps


def transform(*texts: str) -> Transform:
    return compile_steps(steps(*texts), KEY)


def applied(document: Any, *texts: str, context: Context = CONTEXT) -> Any:
    """Return what the steps make of a document."""
    return transform(*texts).apply(document, context)


def fault(document: Any, *texts: str, context: Context = CONTEXT) -> tuple[str, str]:
    """Return pointer and reason of why the steps cannot be done."""
    try:
        result = transform(*texts).apply(document, context)
    except TransformError as error:
        (failure,) = error.failures
        assert failure.keyword == "transform"
        return failure.pointer, failure.message
    raise AssertionError(result)
