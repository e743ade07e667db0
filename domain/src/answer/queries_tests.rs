use super::focused_queries;

/// Goal: each question that "and" joins is searched for by itself, with the names that it is about.
#[test]
fn compound_questions_are_taken_apart() {
    for (question, parts) in [
        (
            "Who are we up against at Vestra, and how much cheaper are they?",
            &[
                "Who are we up against at Vestra",
                "how much cheaper are they? Vestra",
            ][..],
        ),
        (
            "Where does Briarwood want to begin the rollout, and with how many users?",
            &[
                "Where does Briarwood want to begin the rollout",
                "with how many users? Briarwood",
            ],
        ),
        (
            "What did they ask for and why did it fail and when is the pilot and who pays?",
            &[
                "What did they ask for",
                "why did it fail",
                "when is the pilot and who pays?",
            ],
        ),
    ] {
        let queries = focused_queries(question);
        assert_eq!(queries[0], question);
        assert_eq!(queries[1..], *parts, "{question}");
    }
}

/// Goal: a question that asks for one thing is searched for once, whatever it joins.
#[test]
fn simple_questions_are_left_whole() {
    for question in [
        "What do procurement and legal still want?",
        "Did they say how and when?",
        "Why and when?",
        "What did they want and why did it fail? When does the pilot begin?",
        "Who objected to the price, and what did they want instead? -Vestra",
        "Who said \"stop and what then\" to Vestra?",
        " and ",
        "",
    ] {
        assert_eq!(focused_queries(question), [question]);
    }
}
