//! Runs of models that the program makes itself.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::backend::Backend;
use burn_flex::Flex;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{Labels, Loss, LossOutput, Reformer, Trainable};
use reformer_core::reversible::Mode;
use reformer_core::{ConfigError, Pass};
use reformer_train::metrics::Quantity;
use reformer_train::{
    Batch, ModelConfig, OwnModelConfig, ResumeOptions, Run, RunModel, RunOutcome, TrainConfig,
    TrainError, TrainOptions, load_model,
};
use serde_json::{Value, json};

use crate::resume::{B, adam, assert_equal, config, losses, parameters, rewind};

/// A stack with a head of its own: two linear layers.
#[derive(Module, Debug)]
struct TwoLayers<B: Backend> {
    reformer: Reformer<B>,
    inner: Linear<B>,
    outer: Linear<B>,
}

impl<B: ReformerBackend> Loss<B> for TwoLayers<B> {
    type Batch = Batch<B>;

    fn loss(&self, batch: Batch<B>, pass: &Pass<B>) -> LossOutput<B> {
        let batch = batch.into_tokens();
        let hidden = self.reformer.forward(batch.tokens, pass);
        let logits = self.outer.forward(self.inner.forward(hidden).tanh());
        Labels::Class(batch.targets.flatten(0, 1)).loss(logits.flatten(0, 1))
    }
}

impl<B: TrainBackend> Trainable<B> for TwoLayers<B> {}

impl<B: TrainBackend> RunModel<B> for TwoLayers<B> {
    fn init(config: &ModelConfig, device: &B::Device) -> Result<Self, TrainError> {
        let own = config.own()?;
        let d_inner: usize = own.settings()?;
        let missing = || ConfigError::new("reformer", "missing", "it is the stack", "add it");
        let stack = own.reformer.as_ref().ok_or_else(missing)?;
        Ok(Self {
            reformer: stack.init(device),
            inner: LinearConfig::new(2 * stack.d_model, d_inner).init(device),
            outer: LinearConfig::new(d_inner, stack.vocab_size).init(device),
        })
    }

    fn reformer(model: &TwoLayers<B::InnerBackend>) -> Option<&Reformer<B::InnerBackend>> {
        Some(&model.reformer)
    }
}

fn own() -> TrainConfig {
    // Gradients are those of Burn's graph.
    let config = config(Mode::Plain, adam()).with_accumulate(2);
    let stack = config.model.reformer().clone();
    let model = OwnModelConfig::new("two layers", 256, &24).with_reformer(stack);
    TrainConfig {
        model: model.into(),
        ..config
    }
}

fn train(run: &Run) -> Result<RunOutcome<Flex, TwoLayers<Flex>>, TrainError> {
    let device = Default::default();
    let step = run.resume_point_of::<B, TwoLayers<B>>(&device)?.step;
    let options = TrainOptions::silent()
        .with_samples(|model: &TwoLayers<Flex>| Some(format!("{} parameters", model.num_params())));
    run.train_model::<B, TwoLayers<B>, _>(&[device], step, options)
}

#[test]
fn own_model_is_resumed_to_the_bit_measured_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(own(), &path).unwrap();
    let whole = train(&run).unwrap();
    assert_eq!(losses(&whole.valid).len(), 3);
    let rows = run.rows().unwrap();
    assert!(rows.iter().any(|row| row.get(Quantity::Coverage).is_some()));
    let page = fs::read_to_string(path.join("report.html")).unwrap();
    assert!(page.contains("two layers") && page.contains("parameters"));

    let over = train(&Run::resume(&path).unwrap()).unwrap();
    assert_equal(&parameters(&over.model), &parameters(&whole.model));

    rewind(&run, 3);
    let resumed = train(&Run::resume(&path).unwrap()).unwrap();
    assert_equal(&parameters(&resumed.model), &parameters(&whole.model));
    assert_eq!(losses(&resumed.valid), losses(&whole.valid));
}

/// Whatever is done with the run of another model, the error says so.
#[test]
fn other_models_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let [mine, library] = ["mine", "library"].map(|name| folder.path().join(name));
    let device = Default::default();
    let refused = |error: TrainError, part: &str| {
        assert!(error.to_string().contains(part), "{error}");
    };
    let run = Run::create(own(), &mine).unwrap();
    let error = run.resume_point::<B>(&device).unwrap_err();
    refused(error, "trains a model of a program's own");
    let options = TrainOptions::silent();
    let error = run.train::<B, _>(&device, 0, options).unwrap_err();
    refused(error, "trains a model of a program's own");
    let error = load_model::<Flex>(&mine, &device).unwrap_err();
    refused(error, "trains a model of a program's own");

    let run = Run::create(config(Mode::Plain, adam()), &library).unwrap();
    refused(train(&run).unwrap_err(), "trains a language model");

    let mut other = own();
    other.model = OwnModelConfig::new("two layers", 256, &"24").into();
    let run = Run::create(other, folder.path().join("other")).unwrap();
    refused(train(&run).unwrap_err(), "`model.settings` is \"24\"");

    let of_other = folder.path().join("of_other");
    let run = Run::create_from(own(), of_other, Some(&library));
    let error = run.and_then(|run| train(&run)).unwrap_err();
    refused(error, "own weights only");

    let mut small = own();
    small.model = OwnModelConfig::new("two layers", 255, &24).into();
    let error = Run::create(small, folder.path().join("small")).unwrap_err();
    refused(error, "`vocab_size` is 255");
    let mut small = own();
    small.model.reformer_mut().vocab_size = 255;
    let error = Run::create(small, folder.path().join("small")).unwrap_err();
    refused(error, "the model reads 256 tokens");
}

/// Changes the model in `config.json`.
fn edit(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config["model"]);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn weights_of_other_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(&Run::create(own(), &path).unwrap()).unwrap();
    edit(&path, |model| model["settings"] = json!(25));
    let run = Run::resume_with(&path, &ResumeOptions::new()).unwrap();
    let error = run.resume_point_of::<B, TwoLayers<B>>(&Default::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`settings` was 24"), "{error}");
}

/// Older versions wrote no kind, neither in the configuration nor in the tags of weights.
#[test]
fn run_without_a_kind_of_model_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    let (whole, _) = crate::resume::train(&run, 0);
    rewind(&run, 3);
    edit(&path, |model| {
        let kind = model.as_object_mut().unwrap().remove("kind");
        assert_eq!(kind, Some(json!("lm")));
    });
    let run = Run::resume(&path).unwrap();
    let step = run.resume_point::<B>(&Default::default()).unwrap().step;
    assert_eq!(step, 3);
    let (resumed, _) = crate::resume::train(&run, step);
    assert_equal(&resumed, &whole);
}
