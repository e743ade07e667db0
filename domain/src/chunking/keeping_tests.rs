use super::{ChunkBudget, PreviousChunk, Unit, chunk_text, chunk_tokens, kept_ranges, pack};

const BUDGET: ChunkBudget = ChunkBudget {
    max_tokens: 180,
    repacked_max_tokens: 210,
    overlap_tokens: 40,
};

/// A call of so many sentences by two speakers, 6 to 25 words each, with their turns.
fn call(sentences: usize) -> Vec<(u32, String)> {
    (0..sentences)
        .map(|number| {
            let word = |word: usize| format!("word{}", number * 31 + word);
            let words: Vec<String> = (0..6 + number * 7 % 20).map(word).collect();
            ((number / 5) as u32, words.join(" "))
        })
        .collect()
}

fn units(sentences: &[(u32, String)]) -> Vec<Unit<'_>> {
    sentences
        .iter()
        .enumerate()
        .map(|(number, (turn, content))| Unit {
            turn: *turn,
            starts_line: number == 0 || sentences[number - 1].0 != *turn,
            speaker: Some(if turn.is_multiple_of(2) { "Ana" } else { "Ben" }),
            content,
            token_count: content.split(' ').count() as u32,
            label_tokens: 2,
        })
        .collect()
}

/// Where chunks begin and what they say.
fn chunks(units: &[Unit], previous: &[(usize, String)]) -> Vec<(usize, String)> {
    let previous: Vec<PreviousChunk> = previous
        .iter()
        .map(|&(start, ref text)| PreviousChunk { start, text })
        .collect();
    let kept = kept_ranges(units, &previous);
    pack(units, BUDGET, &kept)
        .into_iter()
        .map(|range| (range.start, chunk_text(&units[range])))
        .collect()
}

/// Goal: the speaker is named where a turn begins, units without a speaker are lines of their own.
#[test]
fn text_of_a_chunk() {
    let unit = |turn, starts_line, speaker, content| Unit {
        turn,
        starts_line,
        speaker,
        content,
        token_count: 1,
        label_tokens: 2,
    };
    let ana = Some("Ana");
    let units = [
        unit(0, true, ana, "One."),
        unit(0, false, ana, "Two."),
        unit(1, true, Some("Ben"), "Three."),
        unit(2, true, None, "Four."),
        unit(2, true, None, "Five."),
        unit(2, false, None, "Six."),
    ];
    assert_eq!(
        chunk_text(&units),
        "Ana: One. Two.\nBen: Three.\nFour.\nFive. Six."
    );
    assert_eq!(chunk_text(&units[1..2]), "Ana: Two.");
    assert_eq!(chunk_text(&[]), "");
    let tokens = [&units[..], &units[1..2], &[]].map(chunk_tokens);
    assert_eq!(tokens, [6 + 4 * 2, 1 + 2, 0]);
}

/// Goal: unchanged text keeps all its chunks; a changed, added or removed sentence makes at most two new ones,
/// wherever it is.
#[test]
fn an_edit_makes_at_most_two_chunks() {
    let original = call(300);
    let before = chunks(&units(&original), &[]);
    assert!(before.len() > 20);
    assert_eq!(chunks(&units(&original), &before), before);
    let mut most = 0;
    for place in 0..original.len() {
        let mut changed = original.clone();
        match place % 4 {
            0 => "something else was said here by then".clone_into(&mut changed[place].1),
            1 => changed[place]
                .1
                .push_str(" and twelve more words that were not said the first time"),
            2 => changed.insert(place, (changed[place].0, "one sentence more".to_owned())),
            _ => drop(changed.remove(place)),
        }
        let now = chunks(&units(&changed), &before);
        let is_new = |text: &String| !before.iter().any(|(_, known)| known == text);
        let new = now.iter().filter(|(_, text)| is_new(text)).count();
        assert!(new <= 2, "{new} new chunks by change {place}");
        most = most.max(new);
    }
    println!(
        "measured: {most} new chunks at most by {} changes",
        original.len()
    );
}

/// Goal: texts that repeat themselves are found in order, and a text that is gone is not found.
#[test]
fn repeated_texts() {
    let same = vec![(0, "the same again and again".to_owned()); 100];
    let before = chunks(&units(&same), &[]);
    assert_eq!(chunks(&units(&same), &before), before);
    for (sentences, text) in [(100, "nothing of it"), (0, "x"), (1, "")] {
        let gone = PreviousChunk { start: 0, text };
        assert!(kept_ranges(&units(&same[..sentences]), &[gone]).is_empty());
    }
}
