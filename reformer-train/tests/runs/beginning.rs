//! A run that starts from the weights of another.

use std::path::Path;

use burn::tensor::Tolerance;
use reformer_core::attention::AttentionKind;
use reformer_core::reversible::Mode;
use reformer_train::{Run, ScheduleConfig, TrainConfig, TrainError, TrainOptions};

use crate::resume::{B, adam, config, parameters, train};

fn attending(kind: AttentionKind) -> TrainConfig {
    let mut config = config(Mode::Reversible, adam()).with_steps(2);
    config.model.reformer_mut().layers = vec![AttentionKind::Local, kind];
    config
}

/// Trains by steps that are too small to be seen.
fn start(
    config: TrainConfig,
    folder: &Path,
    from: &Path,
) -> Result<Vec<burn::tensor::TensorData>, TrainError> {
    let standing = config.with_schedule(ScheduleConfig::Linear {
        rate: 1e-12,
        warmup_steps: 0,
        final_share: 1.0,
    });
    let run = Run::create(standing, folder)?;
    let options = TrainOptions {
        start_from: Some(from.to_owned()),
        ..TrainOptions::silent()
    };
    let outcome = run.train::<B, _>(&Default::default(), 0, options)?;
    Ok(parameters(&outcome.model))
}

#[test]
fn what_attended_exactly_goes_on_with_hashing() {
    let folder = tempfile::tempdir().unwrap();
    let exact = folder.path().join("exact");
    let run = Run::create(attending(AttentionKind::Full), &exact).unwrap();
    let (trained, _) = train(&run, 0);

    let hashing = folder.path().join("hashing");
    let found = start(attending(AttentionKind::Lsh), &hashing, &exact).unwrap();
    assert_eq!(found.len(), trained.len());
    for (found, trained) in found.iter().zip(&trained) {
        found.assert_approx_eq::<f32>(trained, Tolerance::absolute(1e-9));
    }
}

#[test]
fn weights_of_other_shapes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let exact = folder.path().join("exact");
    let run = Run::create(attending(AttentionKind::Full), &exact).unwrap();
    train(&run, 0);

    let mut wider = attending(AttentionKind::Lsh);
    wider.model.reformer_mut().d_model = 32;
    let error = start(wider, &folder.path().join("wider"), &exact).unwrap_err();
    assert!(matches!(error, TrainError::OtherWeights { .. }), "{error}");

    let mut separate = attending(AttentionKind::Full);
    separate.model.reformer_mut().full_share_qk = false;
    let error = start(separate, &folder.path().join("separate"), &exact).unwrap_err();
    assert!(matches!(error, TrainError::Config(_)), "{error}");
}
