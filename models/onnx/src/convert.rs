//! A dynamically quantised graph as a float one: for devices that have no int8 operators, and for batches.
//!
//! Three patterns of ONNX Runtime's dynamic quantisation are undone:
//!
//! - `Mul(Cast(MatMulInteger(q(x), W)), Mul(scale(x), scale(W)))`, where `q` is `DynamicQuantizeLinear`, becomes
//!   `MatMul(x, (W - zero point) * scale(W))`;
//! - `DequantizeLinear(Gather(W, i))` becomes `Gather((W - zero point) * scale, i)`;
//! - `DequantizeLinear(W)` becomes the weights themselves.
//!
//! Weights keep the rounding they once got; activations are not rounded any more, so results are close to those of the
//! quantised graph and nearer to those of the original. What a graph has beyond these patterns is refused by name.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message;

use crate::proto::{FLOAT, Graph, INT8, Model, Node, Tensor, UINT8};

/// Operators that must not be left.
const QUANTISED: [&str; 8] = [
    "DequantizeLinear",
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
    "DynamicQuantizeMatMul",
];

/// A graph that was converted.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// Products of quantised matrices that became `MatMul`.
    pub products: usize,
    /// Look-ups in quantised tables that became plain ones.
    pub tables: usize,
    /// Weights that are 32-bit floats now.
    pub weights: usize,
    /// Nodes that are needed no more.
    pub nodes_removed: usize,
}

/// Makes the float graph of a quantised one; `onnx` is the content of the file. The message says what is not
/// understood.
pub fn to_float(onnx: &[u8]) -> Result<Converted, String> {
    let mut model = Model::decode(onnx).map_err(|error| format!("it is no ONNX file: {error}"))?;
    if !model.functions.is_empty() {
        return Err("it has functions of its own, which are not looked into".into());
    }
    let graph = model.graph.as_mut().ok_or("it is an ONNX file without a graph")?;
    let inner = |node: &Node| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    if let Some(node) = graph.node.iter().find(|node| inner(node)) {
        return Err(format!("its node {} has graphs inside, which are not looked into", node.op()));
    }
    let before = graph.node.len();
    let mut rewrite = Rewrite::new(graph);
    for at in 0..before {
        match graph.node[at].op() {
            "MatMulInteger" => rewrite.product(graph, at)?,
            "DequantizeLinear" => rewrite.table(graph, at)?,
            _ => {}
        }
    }
    let Rewrite { weights, products, tables, .. } = rewrite;
    if products + tables == 0 {
        return Err("it is not dynamically quantised: there is nothing to convert".into());
    }
    let added = weights.len();
    graph.initializer.extend(weights.into_values());
    drop_unused(graph);
    if let Some(node) = graph.node.iter().find(|node| QUANTISED.contains(&node.op())) {
        let output = node.output.first().map_or("", String::as_str);
        return Err(format!("its node {} that gives {output} stands in no pattern that is known", node.op()));
    }
    // Types inferred for values that are gone or have become floats.
    graph.value_info.clear();
    graph.quantization_annotation.clear();
    let nodes_removed = before.saturating_sub(graph.node.len());
    model.producer_name = Some("bowerbird models convert".into());
    Ok(Converted { bytes: model.encode_to_vec(), products, tables, weights: added, nodes_removed })
}

/// What is known of a graph while its nodes are replaced in place.
struct Rewrite {
    /// Node that gives a value.
    producer: HashMap<String, usize>,
    /// Nodes that take a value.
    consumers: HashMap<String, Vec<usize>>,
    /// Place of an initialiser.
    initializer: HashMap<String, usize>,
    /// Float weights by name; ordered by name so that the file is the same each time.
    weights: BTreeMap<String, Tensor>,
    products: usize,
    tables: usize,
}

impl Rewrite {
    fn new(graph: &Graph) -> Self {
        let mut producer = HashMap::new();
        let mut consumers: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, node) in graph.node.iter().enumerate() {
            producer.extend(node.output.iter().map(|output| (output.clone(), at)));
            for input in &node.input {
                consumers.entry(input.clone()).or_default().push(at);
            }
        }
        let initializer = graph
            .initializer
            .iter()
            .enumerate()
            .map(|(at, tensor)| (tensor.named().to_owned(), at))
            .collect();
        Self { producer, consumers, initializer, weights: BTreeMap::new(), products: 0, tables: 0 }
    }

    /// The only node that takes `value`, when it is an `op`.
    fn only<'a>(&self, graph: &'a Graph, value: &str, op: &str) -> Result<(usize, &'a Node), String> {
        match self.consumers.get(value).map(Vec::as_slice) {
            Some([at]) if graph.node[*at].op() == op => Ok((*at, &graph.node[*at])),
            _ => Err(format!("{value} should go to one {op} and nowhere else")),
        }
    }

    /// The node that gives `value`, when it is an `op`.
    fn made<'a>(&self, graph: &'a Graph, value: &str, op: &str) -> Result<&'a Node, String> {
        let node = self.producer.get(value).map(|at| &graph.node[*at]);
        node.filter(|node| node.op() == op).ok_or_else(|| format!("{value} should come from {op}"))
    }

    fn tensor<'a>(&self, graph: &'a Graph, name: &str) -> Result<&'a Tensor, String> {
        let at =
            self.initializer.get(name).ok_or_else(|| format!("{name} should be a constant of the graph"))?;
        Ok(&graph.initializer[*at])
    }

    /// The `MatMulInteger` at `at`, with everything up to the float product.
    fn product(&mut self, graph: &mut Graph, at: usize) -> Result<(), String> {
        let [x, weights, x_zero, rest @ ..] = graph.node[at].input.as_slice() else {
            return Err("a MatMulInteger has fewer than three inputs".into());
        };
        let quantise = self.made(graph, x, "DynamicQuantizeLinear")?;
        let ([float], [quantised, x_scale, x_offset]) =
            (quantise.input.as_slice(), quantise.output.as_slice())
        else {
            return Err("a DynamicQuantizeLinear has other inputs or outputs than it should".into());
        };
        if quantised != x || x_offset != x_zero {
            return Err(format!("{x} and {x_zero} should come from one DynamicQuantizeLinear"));
        }
        let (_, cast) = self.only(graph, first_output(&graph.node[at])?, "Cast")?;
        let cast = first_output(cast)?;
        let (scaled_at, scaled) = self.only(graph, cast, "Mul")?;
        let scales = self.made(graph, other_input(scaled, cast)?, "Mul")?;
        let scale = self.tensor(graph, other_input(scales, x_scale)?)?;
        let zero =
            rest.first().filter(|name| !name.is_empty()).map(|name| self.tensor(graph, name)).transpose()?;
        let name = format!("{weights}_float");
        let tensor = dequantised(self.tensor(graph, weights)?, scale, zero, &name)?;
        let replaced = Node {
            input: vec![float.clone(), name.clone()],
            output: scaled.output.clone(),
            name: scaled.name.clone(),
            op_type: Some("MatMul".into()),
            ..Node::default()
        };
        graph.node[scaled_at] = replaced;
        self.weights.insert(name, tensor);
        self.products += 1;
        Ok(())
    }

    /// The `DequantizeLinear` at `at`, over a table or over what was looked up in one.
    fn table(&mut self, graph: &mut Graph, at: usize) -> Result<(), String> {
        let node = &graph.node[at];
        let [value, scale, rest @ ..] = node.input.as_slice() else {
            return Err("a DequantizeLinear has fewer than two inputs".into());
        };
        let scale = self.tensor(graph, scale)?;
        let zero =
            rest.first().filter(|name| !name.is_empty()).map(|name| self.tensor(graph, name)).transpose()?;
        let gather = if self.initializer.contains_key(value) {
            None
        } else {
            Some(self.made(graph, value, "Gather")?)
        };
        let table = gather.map_or(Some(value), |gather| gather.input.first());
        let table = table.ok_or("a Gather has no input")?;
        if count(scale)? != 1 {
            return Err(format!("{table} has a scale for each row or column, which is not understood"));
        }
        let name = format!("{table}_float");
        let tensor = dequantised(self.tensor(graph, table)?, scale, zero, &name)?;
        let mut replaced = gather.cloned().unwrap_or_else(|| Node {
            input: vec![String::new()],
            op_type: Some("Identity".into()),
            ..Node::default()
        });
        replaced.input[0].clone_from(&name);
        replaced.output.clone_from(&node.output);
        replaced.name.clone_from(&node.name);
        graph.node[at] = replaced;
        self.weights.insert(name, tensor);
        self.tables += 1;
        Ok(())
    }
}

fn first_output(node: &Node) -> Result<&str, String> {
    node.output.first().map(String::as_str).ok_or_else(|| format!("a {} gives nothing", node.op()))
}

/// The other of two inputs.
fn other_input<'a>(node: &'a Node, one: &str) -> Result<&'a str, String> {
    match node.input.as_slice() {
        [a, b] if a == one => Ok(b),
        [a, b] if b == one => Ok(a),
        _ => Err(format!("a {} should have two inputs, one of them {one}", node.op())),
    }
}

/// Elements of a tensor.
fn count(tensor: &Tensor) -> Result<usize, String> {
    tensor
        .dims
        .iter()
        .try_fold(1usize, |all, dim| all.checked_mul(usize::try_from(*dim).ok()?))
        .ok_or_else(|| format!("{} has impossible dimensions {:?}", tensor.named(), tensor.dims))
}

/// `(values - zero) * scale` for a scale of one element, or of one for each element of the last axis.
fn dequantised(values: &Tensor, scale: &Tensor, zero: Option<&Tensor>, name: &str) -> Result<Tensor, String> {
    let quantised = integers(values)?;
    let scales = floats(scale)?;
    let zeros = zero.map_or_else(|| Ok(vec![0; scales.len()]), integers)?;
    let columns = values.dims.last().and_then(|dim| usize::try_from(*dim).ok()).unwrap_or(1);
    let fits = scales.len() == 1 || (scales.len() == columns && values.dims.len() == 2);
    if !fits || zeros.len() != scales.len() {
        return Err(format!(
            "{} has dimensions {:?}, {} scales and {} zero points, which do not fit",
            values.named(),
            values.dims,
            scales.len(),
            zeros.len()
        ));
    }
    let each = scales.len();
    let bytes = quantised
        .iter()
        .enumerate()
        .flat_map(|(at, value)| (((value - zeros[at % each]) as f32) * scales[at % each]).to_le_bytes())
        .collect();
    Ok(Tensor {
        dims: values.dims.clone(),
        data_type: Some(FLOAT),
        name: Some(name.to_owned()),
        raw_data: Some(bytes),
        ..Tensor::default()
    })
}

/// Values of an 8-bit tensor, which lie as bytes or one to a number.
fn integers(tensor: &Tensor) -> Result<Vec<i32>, String> {
    let signed = match tensor.data_type {
        Some(INT8) => true,
        Some(UINT8) => false,
        other => return Err(format!("{} has type {other:?}, expected 8-bit integers", tensor.named())),
    };
    let one = |byte: u8| if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) };
    let values: Vec<i32> = match &tensor.raw_data {
        Some(bytes) => bytes.iter().copied().map(one).collect(),
        // As they come from the file, any 32-bit numbers.
        None if tensor.int32_data.iter().any(|value| !(-128..=255).contains(value)) => {
            return Err(format!("{} holds numbers that are no 8-bit integers", tensor.named()));
        }
        None => tensor.int32_data.clone(),
    };
    checked(tensor, values)
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, String> {
    if tensor.data_type != Some(FLOAT) {
        return Err(format!("{} has type {:?}, expected floats", tensor.named(), tensor.data_type));
    }
    let values = match &tensor.raw_data {
        Some(bytes) => bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect(),
        None => tensor.float_data.clone(),
    };
    checked(tensor, values)
}

fn checked<T>(tensor: &Tensor, values: Vec<T>) -> Result<Vec<T>, String> {
    let expected = count(tensor)?;
    if values.len() == expected && expected > 0 {
        return Ok(values);
    }
    Err(format!("{} holds {} values, its dimensions say {expected}", tensor.named(), values.len()))
}

/// Takes out nodes whose results nobody takes, and constants that no node takes.
fn drop_unused(graph: &mut Graph) {
    loop {
        let mut used: HashSet<&str> = graph.output.iter().filter_map(|value| value.name.as_deref()).collect();
        used.extend(graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str)));
        let keep: Vec<bool> = graph
            .node
            .iter()
            .map(|node| node.output.iter().any(|output| used.contains(output.as_str())))
            .collect();
        if keep.iter().all(|keep| *keep) {
            let constants: Vec<bool> =
                graph.initializer.iter().map(|tensor| used.contains(tensor.named())).collect();
            let mut constants = constants.into_iter();
            graph.initializer.retain(|_| constants.next().unwrap_or(true));
            return;
        }
        let mut keep = keep.into_iter();
        graph.node.retain(|_| keep.next().unwrap_or(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ValueInfo;
    use crate::{EmbedderSpec, ModelFiles, OnnxEmbedder, OnnxReranker, SessionOptions, testing};
    use bowerbird_models_api::{Embedder, Pair, Reranker, TextRole};

    const TEXTS: [&str; 8] = [
        "Can't sleep? Try this soothing meditation for a sounder snooze",
        "FDA nod for a new drug",
        "Flu shots: what you need to know about this year's nasal spray vaccine and who should not take it",
        "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
        "RT @nprhealth: To Fight Meningitis Outbreak, Princeton Tries European Vaccine http://t.co/x #health",
        "yes",
        "Coffee may lower the risk of several diseases, a large study of older adults suggests. Researchers followed \
         half a million people for ten years; those who drank two to three cups a day were less likely to die early.",
        "🙂🙂 ¿qué?",
    ];

    #[test]
    fn the_float_embedder_gives_the_vectors_of_the_quantised_one() {
        let Some(models) = testing::models() else { return };
        let dir = tempfile::tempdir().expect("temp dir");
        let files = models.embedder_files();
        let converted = to_float(&std::fs::read(&files.model).expect("reads")).expect("converts");
        assert_eq!((converted.products, converted.tables, converted.weights), (72, 3, 75));
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, &converted.bytes).expect("writes");
        let files = ModelFiles { model: path, ..files };
        let options = SessionOptions::default();
        let spec: EmbedderSpec = testing::embedder_spec();
        let mut float = OnnxEmbedder::open(&models.runtime(), &files, spec, &options).expect("opens");
        let mut int8 = models.embedder();
        let batch: Vec<(&str, TextRole)> = TEXTS.iter().map(|text| (*text, TextRole::Passage)).collect();
        let together = float.embed_batch(&batch);
        for (text, together) in TEXTS.iter().zip(together) {
            let expected = int8.embed(text, TextRole::Passage).expect("embeds");
            let alone = float.embed(text, TextRole::Passage).expect("embeds");
            let cosine = alone.cosine(&expected).expect("one length");
            assert!(cosine > 0.99, "{cosine} for {text}");
            let together = together.expect("embeds").0.cosine(&alone).expect("one length");
            assert!(
                together > 0.999_99,
                "a float vector does not depend on its batch: {together} for {text}"
            );
        }
    }

    #[test]
    fn the_float_reranker_orders_as_the_quantised_one_and_batches_change_nothing() {
        let Some(models) = testing::models() else { return };
        let dir = tempfile::tempdir().expect("temp dir");
        let files = models.reranker_files();
        let converted = to_float(&std::fs::read(&files.model).expect("reads")).expect("converts");
        assert_eq!((converted.products, converted.tables), (74, 3));
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, &converted.bytes).expect("writes");
        let files = ModelFiles { model: path, ..files };
        let options = SessionOptions::default();
        let mut float =
            OnnxReranker::open(&models.runtime(), &files, testing::reranker_spec(), &options).expect("opens");
        let mut int8 = models.reranker();
        let long = TEXTS[6].repeat(8);
        let passages: Vec<&str> = TEXTS.into_iter().chain([long.as_str()]).collect();
        for query in ["how to sleep better", "does coffee lower the risk of disease"] {
            let pair = |passage| Pair { query, passage, passage_tokens: None };
            let pairs: Vec<Pair<'_>> = passages.iter().copied().map(pair).collect();
            let together = float.score_batch(&pairs);
            for (Pair { query, passage, .. }, together) in pairs.iter().zip(together) {
                let expected = int8.score(query, passage).expect("scores").get();
                let alone = float.score(query, passage).expect("scores").get();
                let together = together.expect("scores").0.get();
                assert!((alone - expected).abs() < 1.0, "{alone}, quantised {expected}: {passage}");
                assert!((together - alone).abs() < 1e-3, "{alone} alone, {together} in a batch: {passage}");
            }
        }
    }

    fn tensor(name: &str, dims: &[i64], kind: i32, raw: &[u8]) -> Tensor {
        Tensor {
            dims: dims.to_vec(),
            data_type: Some(kind),
            name: Some(name.into()),
            raw_data: Some(raw.to_vec()),
            ..Tensor::default()
        }
    }

    #[test]
    fn weights_are_scaled_by_tensor_or_by_column() {
        let values = tensor("w", &[2, 2], INT8, &[1, 255, 3, 4]);
        let scale = |values: &[f32]| Tensor {
            dims: vec![i64::try_from(values.len()).expect("few")],
            data_type: Some(FLOAT),
            float_data: values.to_vec(),
            ..Tensor::default()
        };
        let get = |tensor: Tensor| floats(&tensor).expect("floats");
        let one = dequantised(&values, &scale(&[0.5]), None, "f").expect("fits");
        assert_eq!(get(one), [0.5, -0.5, 1.5, 2.0]);
        let zero = Tensor { int32_data: vec![1, 0], raw_data: None, ..tensor("z", &[2], INT8, &[]) };
        let columns = dequantised(&values, &scale(&[1.0, 10.0]), Some(&zero), "f").expect("fits");
        assert_eq!(get(columns), [0.0, -10.0, 2.0, 40.0]);
        assert!(dequantised(&values, &scale(&[1.0, 1.0, 1.0]), None, "f").is_err());
        let short = tensor("w", &[2, 3], INT8, &[1, 2, 3]);
        let error = dequantised(&short, &scale(&[1.0]), None, "f").expect_err("too short");
        assert!(error.contains("holds 3 values, its dimensions say 6"), "{error}");
        let endless = tensor("w", &[i64::MAX, i64::MAX], INT8, &[]);
        assert!(dequantised(&endless, &scale(&[1.0]), None, "f").is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        assert!(to_float(b"no protobuf").expect_err("text").contains("no ONNX file"));
        assert!(to_float(b"").expect_err("empty").contains("without a graph"));
        let value = |name: &str| ValueInfo { name: Some(name.into()), ..ValueInfo::default() };
        let node = |op: &str, input: &[&str], output: &str| Node {
            op_type: Some(op.into()),
            input: input.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.into()],
            ..Node::default()
        };
        let error = |nodes: Vec<Node>| {
            let graph = Graph {
                node: nodes,
                initializer: vec![tensor("w", &[1], INT8, &[1]), tensor("s", &[1], FLOAT, &[0; 4])],
                output: vec![value("y")],
                ..Graph::default()
            };
            let model = Model { graph: Some(graph), ..Model::default() };
            to_float(&model.encode_to_vec()).expect_err("is refused")
        };
        assert!(error(vec![node("Relu", &["x"], "y")]).contains("nothing to convert"));
        assert!(
            error(vec![node("MatMulInteger", &["x", "w", "z"], "y")]).contains("x should come from Dynamic")
        );
        assert!(error(vec![node("MatMulInteger", &["x"], "y")]).contains("fewer than three"));
        assert!(
            error(vec![node("DequantizeLinear", &["x", "s"], "y")]).contains("x should come from Gather")
        );
        let left = vec![node("DequantizeLinear", &["w", "s"], "a"), node("QLinearConv", &["a"], "y")];
        assert!(error(left).contains("QLinearConv that gives y"));
        let wide = Tensor { raw_data: None, int32_data: vec![i32::MIN], ..tensor("w", &[1], INT8, &[1]) };
        assert!(integers(&wide).expect_err("is refused").contains("no 8-bit integers"));
    }
}
