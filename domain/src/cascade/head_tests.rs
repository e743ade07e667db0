use super::*;

fn train(rows: Vec<Row<'_>>, labels: &[usize], classes: usize) -> (Head, f32) {
    let lesson = Lesson {
        rows,
        labels: labels.to_vec(),
        classes,
    };
    let penalty = Penalty::choose(&lesson, &|| {});
    (Head::fit(&lesson, penalty, &|| {}), penalty.loss)
}

fn rows<'a>(features: &'a Features, vectors: &'a [Vec<f32>]) -> Vec<Row<'a>> {
    let row = |vector: &'a Vec<f32>| Row { features, vector };
    vectors.iter().map(row).collect()
}

/// Goal: rows that lie apart are told apart, also those that were not seen.
#[test]
fn classes_that_lie_apart_are_learned() {
    let vector = |number: usize| -> Vec<f32> {
        let angle = (number % 3) as f32 * 2.1 + (number as f32 * 0.37).sin() * 0.4;
        vec![angle.cos(), angle.sin()]
    };
    let vectors: Vec<Vec<f32>> = (0..200).map(vector).collect();
    let same = Features::of("the same");
    let rows = rows(&same, &vectors);
    let labels: Vec<usize> = (0..200).map(|number| number % 3).collect();
    let (head, _) = train(rows[..100].to_vec(), &labels[..100], 3);
    for (row, &label) in rows[100..].iter().zip(&labels[100..]) {
        let probabilities = head.probabilities(*row);
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        assert!(probabilities[label] > 0.6, "{probabilities:?}");
    }
}

/// Goal: words alone tell classes apart, with no embedding.
#[test]
fn words_are_learned() {
    let said = ["please send", "could you quote", "we love", "thanks for"];
    let about = [
        "the order form",
        "a price",
        "the plan",
        "our training",
        "this draft",
    ];
    let texts = (0..20).map(|n| Features::of(&format!("{} {}", said[n % 4], about[n / 4])));
    let texts: Vec<Features> = texts.collect();
    let rows = texts.iter().map(|features| Row {
        features,
        vector: &[],
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let labels: Vec<usize> = (0..20).map(|n| usize::from(n % 4 >= 2)).collect();
    let (head, loss) = train(rows[..16].to_vec(), &labels[..16], 2);
    assert!(loss < 0.5, "{loss}");
    for (row, &label) in rows[16..].iter().zip(&labels[16..]) {
        assert!(head.probabilities(*row)[label] > 0.6);
    }
}

/// Goal: labels that have nothing to do with the rows make it say how often each comes, and nothing more.
#[test]
fn noise_makes_it_unsure() {
    let order = crate::cascade::shuffled(400, 7);
    let vectors: Vec<Vec<f32>> = (0..400_u16)
        .map(|n| vec![f32::from(n).sin(), f32::from(n).cos()])
        .collect();
    let same = Features::of("the same");
    let rows = rows(&same, &vectors);
    let labels: Vec<usize> = order
        .iter()
        .map(|place| usize::from(place % 4 == 0))
        .collect();
    let (head, loss) = train(rows.clone(), &labels, 2);
    // The entropy of a quarter.
    assert!(loss > 0.55, "{loss}");
    let sure = rows
        .iter()
        .filter(|row| head.probabilities(**row)[1] > 0.5)
        .count();
    assert!(sure < 20, "{sure}");
}

/// Goal: a sample in which only one class occurs is no division by zero.
#[test]
fn one_class_is_certain() {
    let vectors = [vec![1.0, 0.0], vec![0.0, 1.0]];
    let same = Features::of("the same");
    let (head, _) = train(rows(&same, &vectors), &[0, 0], 1);
    let row = Row {
        features: &same,
        vector: &[0.6, 0.8],
    };
    assert_eq!(head.probabilities(row), [1.0]);
}
