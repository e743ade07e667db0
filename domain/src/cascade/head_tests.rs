use super::*;

/// Goal: rows that lie apart are told apart, also those that were not seen.
#[test]
fn classes_that_lie_apart_are_learned() {
    let row = |number: usize| -> Vec<f32> {
        let angle = (number % 3) as f32 * 2.1 + (number as f32 * 0.37).sin() * 0.4;
        vec![angle.cos(), angle.sin()]
    };
    let rows: Vec<Vec<f32>> = (0..200).map(row).collect();
    let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let labels: Vec<usize> = (0..200).map(|number| number % 3).collect();
    let head = Head::train(&slices[..100], &labels[..100], 3, &|| {});
    for (row, &label) in slices[100..].iter().zip(&labels[100..]) {
        let probabilities = head.probabilities(row);
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        assert!(probabilities[label] > 0.6, "{probabilities:?}");
    }
}

/// Goal: labels that have nothing to do with the rows make it say how often each comes, and nothing more.
#[test]
fn noise_makes_it_unsure() {
    let order = crate::cascade::shuffled(400, 7);
    let rows: Vec<Vec<f32>> = (0..400_u16)
        .map(|n| vec![f32::from(n).sin(), f32::from(n).cos()])
        .collect();
    let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let labels: Vec<usize> = order
        .iter()
        .map(|place| usize::from(place % 4 == 0))
        .collect();
    let head = Head::train(&slices, &labels, 2, &|| {});
    let sure = slices
        .iter()
        .filter(|row| head.probabilities(row)[1] > 0.5)
        .count();
    assert!(sure < 20, "{sure}");
}

/// Goal: a sample in which only one class occurs is no division by zero.
#[test]
fn one_class_is_certain() {
    let rows = [vec![1.0, 0.0], vec![0.0, 1.0]];
    let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let head = Head::train(&slices, &[0, 0], 1, &|| {});
    assert_eq!(head.probabilities(&[0.6, 0.8]), [1.0]);
}
