"""Scripts ask what they say, and the same key asks for the same lengths."""

from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.script import BEGIN, END, mixed


def test_decode_prompts_are_the_same_each_time_and_others_are_not() -> None:
    """What a backend remembers saves reading before a decode, and must not shorten a prefill."""
    assert script.decode(4, 256, 34) == script.decode(4, 256, 34)
    assert len({call.seed for call in script.decode(4, 256, 34).calls}) == 4
    assert script.prefill(64, 1).calls != script.prefill(64, 2).calls
    assert script.prefill(64, 1).key == script.prefill(64, 2).key


def test_probes_of_a_stall_come_one_after_the_other_while_the_first_decodes() -> None:
    """The first waits for the decoder's first token, each other for the end of the one before."""
    decoder, *probes = script.stall((64, 16, 256), 0.01, seed=3).calls

    assert [(probe.after, probe.at) for probe in probes] == [(0, BEGIN), (1, END), (2, END)]
    assert [probe.prompt for probe in probes] == [64, 16, 256]
    assert all(probe.delay_s >= 0.03 for probe in probes)
    assert decoder.answer > 10 * len(probes)


def test_what_is_remembered_is_asked_again_with_another_end() -> None:
    """The same beginning of 512 tokens, each time with 16 others behind."""
    first, *others = script.remember(512, 16, seed=5).calls

    assert {call.family for call in (first, *others)} == {5}
    assert [(call.prompt, call.shared) for call in others] == [(528, 512)] * 3
    assert len({call.seed for call in others}) == 3


def test_arrivals_do_not_wait_and_clients_do() -> None:
    """Poisson comes at about its rate, whatever became of others; a client asks again when it was answered."""
    lengths = mixed(200, (16, 1024), (8, 96), seed=1)

    opened = script.opened("o", lengths, 4.0, seed=2)
    closed = script.closed("c", lengths, 3, 0.5, seed=2)

    assert all(call.after is None for call in opened.calls)
    assert 35 < opened.calls[-1].delay_s < 65
    assert [call.after for call in closed.calls[:6]] == [None, None, None, 0, 1, 2]
    assert [call.delay_s for call in closed.calls[:4]] == [0.0, 0.5, 1.0, 0.0]


def test_a_client_may_pause_before_it_asks_again() -> None:
    """Each time for another while, about as long as is said; who asks first does not."""
    lengths = mixed(200, (16, 1024), (8, 96), seed=1)

    pauses = [call.delay_s for call in script.closed("c", lengths, 3, 0.0, seed=2, pause_s=0.2).calls]

    assert pauses[:3] == [0.0, 0.0, 0.0]
    assert all(0.1 <= pause <= 0.3 for pause in pauses[3:])
    assert 0.19 < sum(pauses) / 197 < 0.21
    assert len(set(pauses)) > 190


def test_lengths_of_a_mix_stay_between_their_bounds_and_spread() -> None:
    """Log-uniform: about half of 24 … 1536 is below 192."""
    prompts = [prompt for prompt, _ in mixed(1000, (24, 1536), (8, 96), seed=7)]

    assert min(prompts) >= 24
    assert max(prompts) <= 1536
    assert 0.4 < sum(prompt < 192 for prompt in prompts) / 1000 < 0.6
