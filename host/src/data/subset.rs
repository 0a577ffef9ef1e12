//! Parts of a split that have its share of every class.

use crate::random::Streams;

/// `count` positions (all, if there are fewer), in order: of every class in proportion, by largest remainder, chosen by
/// `streams`.
pub(super) fn stratified(labels: &[i64], classes: usize, count: usize, streams: &Streams) -> Vec<i64> {
    let mut of_class = vec![Vec::new(); classes];
    labels.iter().zip(0i64..).for_each(|(&label, position)| of_class[label as usize].push(position));
    let share = (count as f64 / labels.len().max(1) as f64).min(1.0);
    let wanted: Vec<f64> = of_class.iter().map(|positions| positions.len() as f64 * share).collect();
    let mut counts: Vec<usize> = wanted.iter().map(|wanted| *wanted as usize).collect();
    let mut order: Vec<usize> = (0..classes).collect();
    order.sort_by(|&a, &b| wanted[b].fract().total_cmp(&wanted[a].fract()));
    let missing = count.min(labels.len()).saturating_sub(counts.iter().sum());
    order.into_iter().take(missing).for_each(|class| counts[class] += 1);
    let mut chosen: Vec<i64> = of_class
        .iter()
        .zip(counts)
        .zip(0..)
        .flat_map(|((positions, count), class)| {
            let order = streams.numbered(class).permutation(positions.len());
            order.into_iter().take(count).map(|place| positions[place as usize])
        })
        .collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_keeps_its_share_and_the_rest_is_what_is_left() {
        let labels: Vec<i64> = (0..1000).map(|i| if i % 10 < 7 { 0 } else { i % 3 }).collect();
        let count = |positions: &[i64], class| {
            positions.iter().filter(|&&position| labels[position as usize] == class).count()
        };
        let all: Vec<i64> = (0..1000).collect();
        let part = stratified(&labels, 3, 101, &Streams::new(0));
        assert_eq!(part.len(), 101);
        for class in 0..3 {
            let expected = count(&all, class) as f64 * 0.101;
            assert!((count(&part, class) as f64 - expected).abs() < 1.0, "{class}");
        }
        assert!(part.is_sorted() && part.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(stratified(&labels, 3, 101, &Streams::new(0)), part);
        assert_ne!(stratified(&labels, 3, 101, &Streams::new(1)), part);
        assert_eq!(stratified(&labels, 3, 5000, &Streams::new(0)), all);
    }
}
