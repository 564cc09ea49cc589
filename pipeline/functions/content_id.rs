//! `content_id`: an id derived from content, the same on every machine and in every run.
//!
//! Ids are written into one flat buffer of digits. [`content_hash`] and [`content_id`] are the same rule for Rust.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{NullBufferBuilder, StringArray};
use datafusion::arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use sha2::{Digest, Sha256};

use super::arguments::{TextColumn, coerce_text, expect_count};
use super::documentation::{Example, Manual, Section};

const ID_BYTES: usize = 16;
const ID_DIGITS: usize = 2 * ID_BYTES;

/// The id of a content as bytes: sha256(`kind` || 0x00 || `text`), cut to 16 bytes.
pub fn content_hash(kind: &str, text: &str) -> [u8; ID_BYTES] {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(text).finalize();
    let mut hash = [0; ID_BYTES];
    hash.copy_from_slice(&digest[..ID_BYTES]);
    hash
}

/// The id of a content as text: [`content_hash`] in 32 lower-case hexadecimal digits.
pub fn content_id(kind: &str, text: &str) -> String {
    hex::encode(content_hash(kind, text))
}

/// Collects ids into one flat text column.
pub(crate) struct ContentIds {
    digits: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl ContentIds {
    /// An empty column with room for `rows` ids.
    pub(crate) fn with_capacity(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { digits: Vec::with_capacity(rows * ID_DIGITS), offsets, nulls: NullBufferBuilder::new(rows) }
    }

    /// Appends the id of a content, or null when one of the two is missing.
    pub(crate) fn append(&mut self, kind: Option<&str>, text: Option<&str>) {
        if let (Some(kind), Some(text)) = (kind, text) {
            let start = self.digits.len();
            self.digits.resize(start + ID_DIGITS, 0);
            hex::encode_to_slice(content_hash(kind, text), &mut self.digits[start..])
                .expect("an id has two digits per byte");
            self.nulls.append_non_null();
        } else {
            self.nulls.append_null();
        }
        self.offsets.push(self.digits.len() as i32);
    }

    /// The column.
    pub(crate) fn finish(self) -> Result<StringArray> {
        if i32::try_from(self.digits.len()).is_err() {
            return Err(exec_datafusion_err!("content_id: more than 67 million ids in one batch"));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(StringArray::try_new(offsets, Buffer::from_vec(self.digits), self.nulls.build())?)
    }
}

/// The function `content_id`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ContentId {
    signature: Signature,
}

impl Default for ContentId {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ContentId {
    fn name(&self) -> &str {
        "content_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        expect_count(self.name(), types, 2)?;
        types.iter().map(|data_type| coerce_text(self.name(), data_type)).collect()
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let kinds = TextColumn::of_array(self.name(), &args.args[0].to_array(rows)?)?;
        let texts = TextColumn::of_array(self.name(), &args.args[1].to_array(rows)?)?;
        let mut ids = ContentIds::with_capacity(rows);
        for row in 0..rows {
            ids.append(kinds.get(row), texts.get(row));
        }
        Ok(ColumnarValue::Array(Arc::new(ids.finish()?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            Manual {
                section: Section::Lists,
                syntax: &["content_id(kind, text)"],
                summary: "Returns an id derived from content, the same on every machine and in every run.",
                details: "",
                arguments: &[
                    (
                        "kind",
                        "Text: what the id names, such as 'session'. It is hashed too, so that kinds never share an \
                         id.",
                    ),
                    ("text", "Text: the content, such as the id of a first event."),
                ],
                example: Example {
                    query: "select content_id('session', 'e-1') as id",
                    rows: &["id", "e19ae48e5db5d64f7a95b617e6afb082"],
                },
                returns: "text of 32 lower-case hexadecimal digits: the first 16 bytes of sha256(kind, a zero byte, \
                          text).",
                parts: &[],
                nulls: "null when either argument is.",
                order: "none: a row is answered by itself.",
                ties: "",
                memory: "32 bytes per row.",
                errors: "an argument that is not text, at planning; more than 67 million ids in one batch.",
                source: "our own; SHA-256 is FIPS 180-4. With 128 bits, two of a billion ids are the same with a \
                         probability of some 10^-21.",
                differs: &[],
            }
            .document()
        });
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;

    use super::*;

    // printf 'session\0e-1' | sha256sum | cut -c1-32
    const SESSION_E1: &str = "e19ae48e5db5d64f7a95b617e6afb082";

    #[test]
    fn an_id_is_the_head_of_the_sha256_of_kind_zero_byte_and_text() {
        assert_eq!(content_id("session", "e-1"), SESSION_E1);
        assert_eq!(hex::encode(content_hash("session", "e-1")), SESSION_E1);
        assert_ne!(content_id("a", "bc"), content_id("ab", "c"));
    }

    #[tokio::test]
    async fn nulls_give_null_and_every_encoding_gives_the_same_id() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(ContentId::default()));
        let sql = "select content_id('session', arrow_cast(id, 'Utf8View')) as viewed, \
                          content_id(arrow_cast('session', 'Dictionary(Int32, Utf8)'), id) as coded, \
                          content_id(null, id) as no_kind \
                   from (values ('e-1'), (null)) as events(id)";
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        for name in ["viewed", "coded"] {
            let ids = batches[0].column_by_name(name).unwrap().as_string::<i32>();
            assert_eq!(ids.iter().collect::<Vec<_>>(), vec![Some(SESSION_E1), None], "{name}");
        }
        assert_eq!(batches[0].column_by_name("no_kind").unwrap().logical_null_count(), 2);
        let error = ctx.sql("select content_id('session', 1)").await.unwrap_err();
        assert!(error.to_string().contains("content_id: expected text, got Int64"), "{error}");
        assert!(ctx.sql("select content_id('session')").await.is_err());
    }
}
