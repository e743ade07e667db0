use super::*;

/// Goal: case and spaces do not matter, words and their order do; all places are within the width, each once.
#[test]
fn texts_are_told_apart_by_words_and_order() {
    let of = |text: &str| Features::of(text).values().to_vec();
    assert_eq!(of("Send the QUOTE"), of("  Send the quote "));
    assert_ne!(of("send the quote"), of("quote the send"));
    assert_ne!(of("ab c"), of("a bc"));
    for text in [
        "",
        "?!",
        "7 Tage später, äh …",
        "見積もりを送ってください。",
        &"long ".repeat(1_000),
    ] {
        let values = of(text);
        let places: Vec<u32> = values.iter().map(|&(place, _)| place).collect();
        assert!(places.is_sorted_by(|left, right| left < right), "{text}");
        assert!(places.iter().all(|&place| (place as usize) < WIDTH));
        let words = values.iter().filter(|(place, _)| *place < PLACES);
        let length: f32 = words.map(|(_, value)| value * value).sum();
        assert!(
            length < 1.001 && values.iter().all(|(_, value)| value.is_finite()),
            "{text}"
        );
    }
}
