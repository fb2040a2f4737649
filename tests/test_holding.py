from mqttproxy.holding import blamed
from mqttproxy.validation import Action, Failure, Verdict
from mqttproxy.validation.verdict import join


def failed(policy: str, *keywords: str) -> Verdict:
    failures = tuple(Failure("", keyword, "") for keyword in keywords)
    return Verdict(action=Action.HOLD, policy=policy, schema=f"{policy}@1", failures=failures)


def test_each_failure_is_laid_to_the_policy_that_found_it() -> None:
    verdict = join([failed("a", "x", "y"), failed("b", "z")])
    assert blamed(verdict) == (("a", "a@1"), ("a", "a@1"), ("b", "b@1"))


def test_with_one_policy_there_is_nothing_to_tell_apart() -> None:
    assert blamed(failed("a", "x")) == ()


def test_there_are_as_many_as_failures_that_are_kept() -> None:
    verdict = join([failed("a", *"x" * 30), failed("b", *"y" * 30)])
    assert len(blamed(verdict)) == len(verdict.failures)
