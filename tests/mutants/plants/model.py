"""Bugs in calls of a model: what providers send, and what must not be kept of it."""

from __future__ import annotations

from mutants.mutant import mutant

MODEL = (
    mutant(
        "what a failed attempt used up is not recorded",
        "runtime/model_calls.py",
        "            usage=usage,\n",
        "",
        "tests/effects/test_failed_attempts.py::test_what_a_failed_attempt_used_up_is_recorded_and_counted",
    ),
    mutant(
        "what a failed attempt used up is not counted",
        "folds/run.py",
        'frozenset({"model_call.completed", "model_call.failed"})',
        'frozenset({"model_call.completed"})',
        "tests/effects/test_failed_attempts.py::test_what_a_failed_attempt_used_up_is_recorded_and_counted",
    ),
    mutant(
        "a stream that was cut is taken for a whole reply",
        "effects/models.py",
        "        except Exception as error:\n"
        "            raise self._failure(litellm, request, error, handled, stream) from error\n",
        "        except Exception as error:\n"
        "            if stream is None:\n"
        "                raise self._failure(litellm, request, error, handled, stream) from error\n"
        '            stream.received_finish_reason = "stop"\n',
        "tests/effects/test_lying_network.py::test_a_lie_is_a_failure_that_is_tried_again",
    ),
    mutant(
        "tool calls that litellm drops are not missed",
        "effects/models.py",
        "if len(calls) < max(calls_begun, int(promised)):",
        "if False:",
        "tests/effects/test_lying_network.py::test_a_lie_is_a_failure_that_is_tried_again",
    ),
    mutant(
        "the key stays in the text of a failure",
        "effects/model_errors.py",
        "if len(secret) >= SECRET_CHARACTERS_MIN:",
        "if False:",
        "tests/effects/test_failed_attempts.py::test_the_key_is_in_no_text_of_a_failure",
    ),
    mutant(
        "the key is taken out of a text that has been cut off",
        "effects/model_errors.py",
        "    text = addressee.without_secrets(text)\n",
        "    text = addressee.without_secrets(text[:DETAIL_CHARACTERS_MAX])\n",
        "tests/effects/test_failed_attempts.py::test_the_key_is_in_no_text_of_a_failure",
    ),
    mutant(
        "a refused key is tried again",
        "effects/model_errors.py",
        "return kind, status >= 500 or",
        "return kind, status >= 401 or",
        "tests/effects/test_failed_attempts.py::test_what_will_not_pass_is_not_tried_again",
    ),
    mutant(
        "connections to a provider stay open",
        "effects/models.py",
        'cache.update_cache_key_with_event_loop("")',
        '"nowhere"',
        "tests/effects/test_lying_network.py::test_what_is_only_odd_is_a_reply",
    ),
)
