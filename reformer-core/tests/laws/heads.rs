//! Heads on a bidirectional stack: against their definition, in both modes, and with the weights of
//! Hugging Face.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{assert_close, drawn, integers, normal, numbers};
use crate::steps::{ordered, stack};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};
use burn_autodiff::Autodiff;
use reformer_core::attention::LocalConfig;
use reformer_core::huggingface::{self, HuggingFaceError};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{
    Labels, Loss, LossOutput, ReformerClassifierConfig, ReformerConfig,
    ReformerQuestionAnsweringConfig, SpanLogits, Trainable,
};
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

const VOCABULARY: u32 = 11;
const SHAPE: [usize; 2] = [3, 40]; // batch_size, seq_length

fn config() -> ReformerConfig {
    let both_sides = LocalConfig::new().with_chunk_length(8).with_after(1);
    stack(VOCABULARY, 3)
        .with_local(both_sides)
        .with_embedding_std(0.7)
        .with_dropout(0.1)
}

/// The last five positions of the second sequence are padding.
fn mask<B: Backend>() -> Tensor<B, 2, Bool> {
    let positions = Tensor::<B, 1, Int>::arange(0..SHAPE[1] as i64, &Default::default());
    let row = |end: i64| positions.clone().greater_equal_elem(end);
    Tensor::stack(vec![row(40), row(35), row(40)], 0)
}

fn classifier_modes_agree<B: ReformerBackend>() {
    let config = ReformerClassifierConfig::new(config(), 4);
    let model = drawn(config.init::<Autodiff<B>>(&Default::default()));
    let device = Default::default();
    let tokens = || integers::<Autodiff<B>, 2>(1, SHAPE, VOCABULARY);
    let pass = Pass::train(Key::new(3)).with_mask_pad(Some(mask()));
    let labels: [fn(&_) -> Labels<Autodiff<B>>; 3] = [
        |device| Labels::Class(Tensor::from_ints([3, -1, 0], device)),
        |_| Labels::Classes(integers::<Autodiff<B>, 2>(2, [3, 4], 2).float()),
        |_| Labels::Values(normal(3, [3, 4])),
    ];
    for labels in labels {
        let step = |mode| {
            let model = model.clone().with_mode(mode);
            let (loss, gradients) = model.gradients((tokens(), labels(&device)), pass.clone());
            assert_eq!(loss.drift.is_some(), mode == Mode::Reversible);
            let loss = all_numbers(loss);
            let alone = model.loss((tokens(), labels(&device)), &pass);
            assert_close("loss alone", &all_numbers(alone), &loss, 1e-6);
            (loss, ordered(&model, &gradients))
        };
        let (plain, reversible) = (step(Mode::Plain), step(Mode::Reversible));
        assert_close("loss", &reversible.0, &plain.0, 1e-6);
        for ((name, found), (_, expected)) in reversible.1.iter().zip(&plain.1) {
            assert_close(name, found, expected, 1e-5);
        }
    }
}

/// Loss, and numbers of right and of all targets.
fn all_numbers<B: Backend>(loss: LossOutput<B>) -> Vec<f64> {
    numbers(Tensor::cat(
        vec![loss.loss, loss.n_correct, loss.n_targets],
        0,
    ))
}

fn scale_is_that_of_gradients_alone<B: ReformerBackend>() {
    let tokens = || integers::<Autodiff<B>, 2>(1, SHAPE, VOCABULARY);
    let numbers_of =
        |tensor: [i32; 3]| Tensor::<Autodiff<B>, 1, Int>::from_ints(tensor, &Default::default());
    let pass = || Pass::train(Key::new(3));
    let classes = ReformerClassifierConfig::new(config(), 4);
    let classes = drawn(classes.init::<Autodiff<B>>(&Default::default()));
    let of_classes = |scale| {
        let labels = Labels::Class(numbers_of([3, -1, 0]));
        let (loss, gradients) = classes.scaled_gradients((tokens(), labels), pass(), scale);
        (all_numbers(loss), ordered(&classes, &gradients))
    };
    let answers = ReformerQuestionAnsweringConfig::new(config());
    let answers = drawn(answers.init::<Autodiff<B>>(&Default::default()));
    let of_answers = |scale| {
        let span = [numbers_of([0, 9, 3]), numbers_of([2, 9, 30])];
        let (loss, gradients) = answers.scaled_gradients((tokens(), span), pass(), scale);
        (all_numbers(loss), ordered(&answers, &gradients))
    };
    for (one, four) in [
        (of_classes(1.0), of_classes(4.0)),
        (of_answers(1.0), of_answers(4.0)),
    ] {
        assert_eq!(one.0, four.0);
        for ((name, one), (_, four)) in one.1.iter().zip(&four.1) {
            let expected: Vec<f64> = one.iter().map(|x| 4.0 * x).collect();
            assert_close(name, four, &expected, 1e-5);
        }
    }
}

fn losses_are_their_definitions<B: ReformerBackend>() {
    let device = Default::default();
    let logits = normal::<B, 2>(1, [3, 4]);
    let rows = numbers(logits.clone());
    let log_prob = |row: usize, class: usize| {
        let row = &rows[4 * row..][..4];
        row[class] - row.iter().map(|x| x.exp()).sum::<f64>().ln()
    };
    let loss = |labels: Labels<B>| all_numbers(labels.loss(logits.clone()));
    let is_largest = |row: usize, class: usize| {
        let mut all = rows[4 * row..][..4].iter();
        f64::from(all.all(|x| rows[4 * row + class] >= *x))
    };
    // The second sequence has no class.
    let found = loss(Labels::Class(Tensor::from_ints([3, 4, 0], &device)));
    let expected = -(log_prob(0, 3) + log_prob(2, 0)) / 2.0;
    let n_correct = is_largest(0, 3) + is_largest(2, 0);
    assert_close("one class", &found, &[expected, n_correct, 2.0], 1e-5);

    let classes = integers::<B, 2>(2, [3, 4], 2);
    let is_in: Vec<f64> = classes.clone().into_data().iter::<f64>().collect();
    let expected = rows.iter().zip(&is_in).map(|(x, is_in)| {
        let probability = 1.0 / (1.0 + (-x).exp());
        -(is_in * probability + (1.0 - is_in) * (1.0 - probability)).ln()
    });
    let found = loss(Labels::Classes(classes.float()));
    let sides = rows.iter().zip(&is_in);
    let n_correct = sides
        .filter(|(x, is_in)| (**x > 0.0) == (**is_in > 0.5))
        .count() as f64;
    let expected = [expected.sum::<f64>() / 12.0, n_correct, 12.0];
    assert_close("any classes", &found, &expected, 1e-5);

    let values = normal::<B, 2>(3, [3, 4]);
    let pairs = rows.iter().zip(numbers(values.clone()));
    let expected = pairs.map(|(x, y)| (x - y).powi(2)).sum::<f64>() / 12.0;
    let expected = [expected, 0.0, 12.0];
    assert_close("values", &loss(Labels::Values(values)), &expected, 1e-5);

    let spans = SpanLogits {
        start: logits.clone(),
        end: logits,
    };
    let found = spans.loss(
        Tensor::from_ints([1, 2, 9], &device),
        Tensor::from_ints([1, -5, 3], &device),
    );
    let start = (log_prob(0, 1) + log_prob(1, 2)) / 2.0;
    let end = (log_prob(0, 1) + log_prob(2, 3)) / 2.0;
    let n_correct = is_largest(0, 1) + is_largest(1, 2) + is_largest(0, 1) + is_largest(2, 3);
    let expected = [-(start + end) / 2.0, n_correct, 4.0];
    assert_close("spans", &all_numbers(found), &expected, 1e-5);
}

fn answers_are_not_padding_and_modes_agree<B: ReformerBackend>() {
    let config = ReformerQuestionAnsweringConfig::new(config());
    let model = drawn(config.init::<Autodiff<B>>(&Default::default()));
    let device = Default::default();
    let tokens = integers::<Autodiff<B>, 2>(1, SHAPE, VOCABULARY);
    let pass = Pass::train(Key::new(3)).with_mask_pad(Some(mask()));
    let spans = model.forward(tokens.clone(), &pass);
    for [first, last] in spans.without_padding(Some(mask())).best(40) {
        assert!(first <= last && last < 40);
    }
    // Were it not for the mask, the padding would be the best answer.
    let logits = mask::<B>().float() * 1e3;
    let spans = SpanLogits {
        start: logits.clone(),
        end: logits,
    };
    assert!(spans.best(40)[1][0] >= 35);
    let [_, [first, last], _] = spans.without_padding(Some(mask())).best(40)[..] else {
        panic!("three sequences");
    };
    assert!(first <= last && last < 35);

    let step = |mode| {
        let model = model.clone().with_mode(mode);
        let span = [[0, 34, 99], [39, 34, 5]].map(|ends| Tensor::from_ints(ends, &device));
        let (loss, gradients) = model.gradients((tokens.clone(), span.clone()), pass.clone());
        let loss = all_numbers(loss);
        let alone = model.loss((tokens.clone(), span), &pass);
        assert_close("loss alone", &all_numbers(alone), &loss, 1e-6);
        (loss, ordered(&model, &gradients))
    };
    let (plain, reversible) = (step(Mode::Plain), step(Mode::Reversible));
    assert_close("loss", &reversible.0, &plain.0, 1e-6);
    for ((name, found), (_, expected)) in reversible.1.iter().zip(&plain.1) {
        assert_close(name, found, expected, 1e-5);
    }
}

/// A file of named tensors as shapes and numbers.
type File = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn read(path: &Path) -> File {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of = |(name, view): (String, TensorView)| {
        let numbers = match view.dtype() {
            Dtype::F32 => {
                let parts = view.data().chunks_exact(4);
                parts
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect()
            }
            _ => {
                let parts = view.data().chunks_exact(8);
                parts
                    .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32)
                    .collect()
            }
        };
        (name, (view.shape().to_vec(), numbers))
    };
    file.tensors().into_iter().map(of).collect()
}

fn write(path: &Path, file: &File) {
    let bytes: Vec<_> = file
        .iter()
        .map(|(name, (shape, numbers))| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name, shape.clone(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A golden case of Hugging Face's with the language model's head replaced by linear layers of
/// these names and shapes. Gives the folder, the layers and what the stack computes.
fn with_head(layers: &[(&str, [usize; 2])]) -> (tempfile::TempDir, File, File) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hf/bidirectional-mixed");
    let mut tensors = read(&case.join("model.safetensors"));
    tensors.retain(|name, _| name.starts_with("reformer."));
    let mut head = File::new();
    for (number, (name, [d_output, d_input])) in layers.iter().enumerate() {
        let seed = 100 + number as u64;
        let numbers = |seed, n| -> Vec<f32> {
            let numbers = numbers(normal::<burn_flex::Flex, 1>(seed, [n]));
            numbers.into_iter().map(|x| 0.3 * x as f32).collect()
        };
        let weight = numbers(seed, d_output * d_input);
        let shape = vec![*d_output, *d_input];
        head.insert(format!("{name}.weight"), (shape, weight));
        let bias = numbers(seed + 50, *d_output);
        head.insert(format!("{name}.bias"), (vec![*d_output], bias));
    }
    tensors.extend(head.clone());
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("model.safetensors"), &tensors);
    std::fs::copy(case.join("config.json"), folder.path().join("config.json")).unwrap();
    (folder, head, read(&case.join("expected.safetensors")))
}

/// PyTorch's linear layer.
fn linear(head: &File, name: &str, x: &[f64]) -> Vec<f64> {
    let (_, weight) = &head[&format!("{name}.weight")];
    let (_, bias) = &head[&format!("{name}.bias")];
    let rows = weight.chunks(x.len()).zip(bias);
    rows.map(|(row, bias)| {
        let products = row.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
        products.sum::<f64>() + f64::from(*bias)
    })
    .collect()
}

struct Golden<B: Backend> {
    tokens: Tensor<B, 2, Int>,
    rotations: Vec<Tensor<B, 4>>,
    /// The stack's output for each token.
    hidden: Vec<Vec<f64>>,
}

impl<B: Backend> Golden<B> {
    fn new(expected: &File) -> Self {
        let device = Default::default();
        let data = |name: &str| {
            let (shape, numbers) = &expected[name];
            burn::tensor::TensorData::new(numbers.clone(), shape.clone())
        };
        let (shape, hidden) = &expected["hidden"];
        let rotations = (0..)
            .map(|layer| format!("rotations.{layer}"))
            .take_while(|name| expected.contains_key(name))
            .map(|name| Tensor::from_data(data(&name), &device));
        Self {
            tokens: Tensor::<B, 2>::from_data(data("input_ids"), &device).int(),
            rotations: rotations.collect(),
            hidden: hidden
                .chunks(shape[2])
                .map(|row| row.iter().map(|&x| f64::from(x)).collect())
                .collect(),
        }
    }
}

fn hugging_face_classifier_is_loaded<B: ReformerBackend>() {
    let layers = [
        ("classifier.dense", [32, 64]),
        ("classifier.out_proj", [5, 32]),
    ];
    let (folder, head, expected) = with_head(&layers);
    let golden = Golden::<B>::new(&expected);
    let device = Default::default();
    let (mut model, config) = huggingface::load_classifier::<B>(folder.path(), &device).unwrap();
    assert_eq!(config.n_classes, 5);
    model.reformer = model.reformer.with_rotations(golden.rotations).unwrap();
    let [batch_size, seq_length] = golden.tokens.dims();
    let found = model.forward(golden.tokens, &Pass::eval());
    let expected: Vec<f64> = (0..batch_size)
        .flat_map(|row| {
            let dense = linear(&head, "classifier.dense", &golden.hidden[row * seq_length]);
            let dense: Vec<f64> = dense.into_iter().map(f64::tanh).collect();
            linear(&head, "classifier.out_proj", &dense)
        })
        .collect();
    assert_close("logits", &numbers(found), &expected, 2e-4);
}

fn hugging_face_question_answering_is_loaded<B: ReformerBackend>() {
    let (folder, head, expected) = with_head(&[("qa_outputs", [2, 64])]);
    let golden = Golden::<B>::new(&expected);
    let device = Default::default();
    let (mut model, _) = huggingface::load_question_answering::<B>(folder.path(), &device).unwrap();
    model.reformer = model.reformer.with_rotations(golden.rotations).unwrap();
    let spans = model.forward(golden.tokens, &Pass::eval());
    let both: Vec<Vec<f64>> = golden
        .hidden
        .iter()
        .map(|hidden| linear(&head, "qa_outputs", hidden))
        .collect();
    for (which, found) in [spans.start, spans.end].into_iter().enumerate() {
        let expected: Vec<f64> = both.iter().map(|pair| pair[which]).collect();
        assert_close("logits", &numbers(found), &expected, 2e-4);
    }
}

fn other_heads_are_refused_by_name<B: ReformerBackend>() {
    let device = Default::default();
    let (folder, ..) = with_head(&[("qa_outputs", [3, 64])]);
    let error = huggingface::load_question_answering::<B>(folder.path(), &device).unwrap_err();
    assert!(matches!(error, HuggingFaceError::Tensors { .. }), "{error}");
    assert!(error.to_string().contains("qa_outputs.weight"), "{error}");
    let error = huggingface::load_classifier::<B>(folder.path(), &device).unwrap_err();
    assert!(
        error.to_string().contains("missing classifier.dense"),
        "{error}"
    );
}

crate::on_cpu_backends!(
    classifier_modes_agree,
    losses_are_their_definitions,
    scale_is_that_of_gradients_alone,
    answers_are_not_padding_and_modes_agree,
    hugging_face_classifier_is_loaded,
    hugging_face_question_answering_is_loaded,
    other_heads_are_refused_by_name,
);
