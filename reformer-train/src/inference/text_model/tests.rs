//! Tests of continuing texts.

use super::*;
use crate::data::DataConfig;
use burn_flex::Flex;
use reformer_core::model::{ReformerConfig, ReformerLmConfig};

fn model() -> TextModel<Flex> {
    let device = Default::default();
    let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 2));
    let config = TrainConfig::new(model.into(), DataConfig::Sample).with_window_length(24);
    let model = config.model.init(&device).into_lm().unwrap();
    TextModel::of_run(model, Codec::of_bytes(&config.data), &config)
}

fn request(prompt: &str, n_tokens: usize, seed: u64) -> GenerationRequest {
    GenerationRequest::new(prompt, n_tokens, SamplerConfig::new(), seed)
}

fn written(
    model: &TextModel<Flex>,
    request: &GenerationRequest,
) -> Result<Vec<Vec<u8>>, InferenceError> {
    let mut texts = vec![Vec::new(); request.n_texts()?];
    model.stream(request, |row, text| {
        texts[row].extend_from_slice(text);
        Ok::<_, InferenceError>(())
    })?;
    Ok(texts)
}

#[test]
fn same_seed_gives_the_same_text_beyond_the_window() {
    let model = model();
    let text = |seed| written(&model, &request("ROMEO:", 40, seed)).unwrap();
    assert_eq!(text(3)[0].len(), 40);
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4));
}

#[test]
fn samples_of_several_prompts_come_in_order_and_the_first_is_as_alone() {
    let model = model();
    let mut request = request("ROMEO:", 10, 1);
    let alone = written(&model, &request).unwrap();
    request.prompts.push(b"A".to_vec());
    request.n_samples = 3;
    let all = written(&model, &request).unwrap();
    assert_eq!(all.len(), 6);
    assert_eq!(all[0], alone[0]);
    assert_ne!(all[1], all[0]);
    let texts = all.iter().map(|text| String::from_utf8_lossy(text));
    assert!(texts.eq(model.generate(&request).unwrap()));
}

#[test]
fn text_ends_before_a_stop_string() {
    let model = model();
    let mut request = request("ROMEO:", 40, 3);
    let whole = written(&model, &request).unwrap().remove(0);
    // Any byte will do that is a character by itself.
    let stop = whole.iter().find(|byte| byte.is_ascii()).copied().unwrap();
    request.stop = vec![char::from(stop).to_string()];
    let text = written(&model, &request).unwrap().remove(0);
    let place = whole.iter().position(|&byte| byte == stop).unwrap();
    assert_eq!(text, whole[..place]);
}

#[test]
fn search_gives_as_many_as_the_beam_is_wide_and_the_best_first() {
    let config = BeamConfig::new().with_beam_size(3);
    let prompts = [b"ROMEO:".to_vec(), b"B".to_vec()];
    let found = model().search(&prompts, 8, &config).unwrap();
    for found in found {
        assert_eq!(found.len(), 3);
        assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        assert!(found.iter().all(|found| found.text.len() == 8));
    }
}

#[test]
fn impossible_requests_are_refused() {
    let model = model();
    let refused = |request: &GenerationRequest| written(&model, request).unwrap_err().to_string();
    assert!(refused(&request("", 1, 0)).starts_with("prompt 1 is empty"));
    assert!(refused(&request("x", 0, 0)).starts_with("0 tokens"));
    let cold = SamplerConfig::new().with_temperature(-1.0);
    assert!(refused(&GenerationRequest::new("x", 1, cold, 0)).starts_with("`temperature` is -1"));
    let search = model.search(&[b"x".to_vec()], 0, &BeamConfig::new());
    assert!(search.unwrap_err().to_string().starts_with("0 tokens"));
    let long = model.inspect(&[256]).unwrap_err().to_string();
    assert!(long.starts_with("token 256 is outside"), "{long}");
    let nothing = GenerationRequest {
        n_samples: 0,
        ..request("x", 1, 0)
    };
    assert!(refused(&nothing).starts_with("0 continuations"));
    let many = GenerationRequest {
        n_samples: usize::MAX,
        ..request("x", 1, 0)
    };
    for request in [nothing, many] {
        // Before memory is taken for them.
        let message = model.generate(&request).unwrap_err().to_string();
        assert_eq!(message, refused(&request));
    }
}
