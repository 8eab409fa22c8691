//! The same for any lengths, batch sizes and seeds.

use burn::data::dataloader::DataLoader;
use burn_flex::Flex;
use proptest::prelude::*;
use reformer_datasets::TrainLoaderConfig;

use crate::{epoch, loader, positions, read};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn passes_read_each_of_their_windows_once(
        len in 60_u8..=255,
        window_length in 1_usize..50,
        batch_size in 1_usize..9,
        seed: u64,
    ) {
        let config = TrainLoaderConfig::new(window_length, batch_size, 3).with_seed(seed);
        let loader = config.init::<Flex>(&positions(len), &Default::default())?;
        let per_pass = (usize::from(len) / window_length).saturating_sub(1).max(1);
        let n_steps = (3 * per_pass).div_ceil(batch_size);

        let mut samples = Vec::new();
        while samples.len() < 3 * per_pass {
            for (step, tokens, targets) in epoch(&loader) {
                prop_assert_eq!(tokens.len(), batch_size, "step {}", step);
                for (tokens, targets) in tokens.into_iter().zip(targets) {
                    // Values are positions: inputs follow each other, and a target is one further.
                    prop_assert_eq!(tokens.len(), window_length);
                    prop_assert!(tokens.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                    prop_assert!(tokens.iter().zip(&targets).all(|(token, target)| token + 1 == *target));
                    samples.push(tokens[0] as usize);
                }
            }
        }
        prop_assert!(loader.next_step() >= n_steps as u64);

        for pass in samples.chunks_exact(per_pass) {
            let mut starts = pass.to_vec();
            starts.sort_unstable();
            let phase = starts[0];
            prop_assert!(phase + per_pass * window_length < usize::from(len));
            let expected: Vec<usize> = (0..per_pass).map(|i| phase + i * window_length).collect();
            prop_assert_eq!(starts, expected);
        }
    }

    #[test]
    fn resuming_at_a_step_equals_continuing(
        config in (1_usize..30, 1_usize..9, 1_usize..7, any::<u64>()),
        start in 0_u64..60,
    ) {
        let (window_length, batch_size, steps_per_epoch, seed) = config;
        let config = TrainLoaderConfig::new(window_length, batch_size, steps_per_epoch).with_seed(seed);
        let unbroken = loader(&config);
        while unbroken.next_step() < start {
            unbroken.iter().next();
        }
        let resumed = loader(&config).starting_at(start);
        for _ in 0..3 {
            prop_assert_eq!(epoch(&unbroken), epoch(&resumed));
        }
    }

    #[test]
    fn equal_seeds_agree_and_others_differ(seed: u64, other: u64) {
        prop_assume!(seed != other);
        // Three passes of 27 windows: that two seeds agree by chance has odds below 1 to 27!.
        let passes = |seed| {
            let config = TrainLoaderConfig::new(7, 27, 1).with_seed(seed);
            let loader = loader(&config);
            (0..3).map(|step| read(&loader.batch(step))).collect::<Vec<_>>()
        };
        prop_assert_eq!(passes(seed), passes(seed));
        prop_assert_ne!(passes(seed), passes(other));
    }
}
