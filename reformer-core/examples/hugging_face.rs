//! Loads a Hugging Face folder, continues a sequence of tokens, and writes the folder again.
//!
//!     cargo run --release -p reformer-core --example hugging_face -- [FOLDER]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn_flex::Flex;
use reformer_core::Key;
use reformer_core::generation::{
    DecodingConfig, GenerationError, LmDecoder, SamplerConfig, generate,
};
use reformer_core::huggingface;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A small model with random weights, made by Hugging Face's own code.
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/hf/causal-mixed-factored"
    );
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(shipped), PathBuf::from);

    let begin = Instant::now();
    let (model, config) = huggingface::load::<Flex>(&folder, &Default::default())?;
    println!(
        "{} parameters, {} layers, loaded in {:.2} s",
        model.num_params(),
        config.reformer.n_layers,
        begin.elapsed().as_secs_f64()
    );

    let (prompt, n_tokens) = (vec![7, 8, 9], 40);
    let decoding = DecodingConfig::new(prompt.len() + n_tokens);
    let (mut decoder, first) = LmDecoder::prefill(&model, &[prompt], &decoding)?;
    let sampler = SamplerConfig::new()
        .with_top_p(Some(0.9))
        .init(Key::new(1))?;
    let mut tokens = Vec::new();
    let begin = Instant::now();
    generate(&mut decoder, first, &mut [sampler], n_tokens, |_, token| {
        tokens.push(token);
        Ok::<_, GenerationError>(ControlFlow::Continue(()))
    })?;
    let each = begin.elapsed().as_secs_f64() / n_tokens as f64;
    println!(
        "{tokens:?}\n{:.2} ms a token, cache of {} bytes",
        1e3 * each,
        decoder.memory_bytes()
    );

    // Any of our models can be written like this if Hugging Face supports its settings.
    let copy = tempfile::tempdir()?;
    huggingface::save(&model, &config, copy.path())?;
    let (again, _) = huggingface::load::<Flex>(copy.path(), &Default::default())?;
    assert_eq!(again.num_params(), model.num_params());
    Ok(())
}
