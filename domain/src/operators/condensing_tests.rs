use super::*;

#[test]
fn short_documents_stay_whole() {
    assert_eq!(pieces("  One. Two.\n", PIECE_BYTES_MAX), vec!["One. Two."]);
    assert!(pieces(" \n ", PIECE_BYTES_MAX).is_empty());
}

#[test]
fn long_documents_are_cut_between_sentences() {
    let sentence = "We talked about the price of the remote control and its battery. ";
    let document = sentence.repeat(300);
    let pieces = pieces(&document, PIECE_BYTES_MAX);
    assert_eq!(pieces.len(), 5);
    for piece in &pieces {
        assert!(piece.len() <= PIECE_BYTES_MAX && piece.ends_with("battery."));
    }
    assert_eq!(pieces.join(" "), document.trim_end());
}

#[test]
fn sentences_without_end_are_cut_between_words_or_anywhere() {
    for document in ["many words ".repeat(2000), "語".repeat(5000)] {
        let pieces = pieces(&document, PIECE_BYTES_MAX);
        assert!(pieces.len() > 2);
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX));
        let kept: usize = pieces
            .iter()
            .map(|piece| piece.split_whitespace().map(str::len).sum::<usize>())
            .sum();
        assert_eq!(
            kept,
            document.split_whitespace().map(str::len).sum::<usize>()
        );
    }
}

#[test]
fn texts_end_with_a_sentence() {
    assert_eq!(whole_sentences("One is. Two is. Three"), "One is. Two is.");
    assert_eq!(whole_sentences("- a\n- b\n- c and"), "- a\n- b");
    assert_eq!(whole_sentences("One is. Two.\nThen th"), "One is. Two.");
    assert_eq!(whole_sentences("1. Price.\n2. Delivery da"), "1. Price.");
    assert_eq!(whole_sentences("no end at all"), "no end at all");
    assert_eq!(whole_sentences(""), "");
}
