//! What models add to records.

use anyhow::Result;
use reformer_core::kernels::ReformerBackend;
use reformer_train::inference::{Answerer, Classifier};
use serde_json::{Map, Value};

use super::Predict;
use super::records::Record;

/// The field that is classified.
const TEXT: &str = "text";
/// The fields that are read of a record with a question.
const FIELDS: [&str; 2] = ["question", "context"];
/// Factor for rounding probabilities to six decimals.
const DIGITS: f64 = 1e6;

/// A probability rounded to its meaningful digits.
fn rounded(probability: f32) -> Value {
    ((f64::from(probability) * DIGITS).round() / DIGITS).into()
}

impl<B: ReformerBackend> Predict for Classifier<B> {
    fn check(&self, record: &Record) -> Result<()> {
        Ok(Classifier::check(self, record.text(TEXT)?)?)
    }

    fn is_cut(&self, record: &Record) -> bool {
        let text = record.text(TEXT);
        text.is_ok_and(|text| Classifier::is_cut(self, text))
    }

    fn predict(&self, records: &mut [Record]) -> Result<()> {
        let texts = records.iter().map(|record| record.text(TEXT));
        let classified = self.classify(&texts.collect::<Result<Vec<_>>>()?)?;
        for (record, found) in records.iter_mut().zip(classified) {
            record.set("class", found.class);
            record.set("probability", rounded(found.probability));
            let all = found.probabilities.into_iter().enumerate();
            let all = all.map(|(class, share)| (self.class_name(class), rounded(share)));
            record.set("probabilities", all.collect::<Map<_, _>>());
        }
        Ok(())
    }
}

impl<B: ReformerBackend> Predict for Answerer<B> {
    fn check(&self, record: &Record) -> Result<()> {
        FIELDS
            .iter()
            .try_for_each(|field| record.text(field).map(|_| ()))
    }

    fn is_cut(&self, record: &Record) -> bool {
        let [question, text] = FIELDS.map(|field| record.text(field).unwrap_or_default());
        Answerer::is_cut(self, question, text)
    }

    fn predict(&self, records: &mut [Record]) -> Result<()> {
        let asked = |record| -> Result<_> {
            let record: &Record = record;
            Ok((record.text(FIELDS[0])?, record.text(FIELDS[1])?))
        };
        let answers = self.answer(&records.iter().map(asked).collect::<Result<Vec<_>>>()?)?;
        for (record, answer) in records.iter_mut().zip(answers) {
            let (text, place) = answer.found.map(|found| (found.text, found.place)).unzip();
            let place = place.flatten();
            record.set("answer", text);
            record.set("probability", rounded(answer.probability));
            record.set("start", place.as_ref().map(|place| place.start));
            record.set("end", place.map(|place| place.end));
        }
        Ok(())
    }
}
