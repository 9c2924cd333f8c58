import DLCFormats
import DLCGraph
import DLCReference
import DLCTensor
import Foundation
import Testing

@testable import DLCONNX

/// ONNX models that are trained.
@Suite struct FineTuningTests {
  /// The mean of each row, whatever its length, through a layer of two outputs.
  private let classifier = model(
    [("x", .float32, [.name("n"), .name("d")])], ["logits"],
    initializers: [
      "axes": integers([1], [1]), "w": floats([1, 2], [0.5, -0.5]), "b": floats([2], [0, 0]),
    ],
    [
      node("ReduceMean", ["x", "axes"], ["mean"]),
      node("Gemm", ["mean", "w", "b"], ["logits"]),
    ])

  /// Rows of five numbers around -1 and 1, in turn; the second are of class 1.
  private static func rows(_ count: Int) -> [(String, Tensor)] {
    let x = (0..<count * 5).map { place -> Double in
      let (row, column) = (place / 5, place % 5)
      return (row % 2 == 0 ? -1 : 1) + 0.1 * Double(column - 2)
    }
    return [
      ("x", floats([count, 5], x)),
      ("target", integers([count], (0..<count).map { Int64($0 % 2) })),
    ]
  }

  /// The data say the size of the axis that the model leaves open.
  @Test func classesAreCountedAndOpenAxesAreBound() throws {
    let folder = try ONNXCommandTests.Folder()
    let file = try folder.write(classifier)
    let data = try folder.write(Self.rows(16), as: "train.npz")
    let validation = try folder.write(Self.rows(8), as: "valid.npz")
    let log = "\(folder.path)/log.jsonl"
    let tuned = "\(folder.path)/tuned.onnx"
    let made = try folder.dlc(
      "train", file, "--loss", "cross-entropy", "--data", data, "--validation", validation,
      "--epochs", "20", "--batch", "4", "--lr", "0.1", "--log", log, "--json", "-o", tuned)
    #expect(made.status == 0, "\(made.error)")
    let end = try #require(
      try JSONSerialization.jsonObject(with: Data(made.out.utf8)) as? [String: Any])
    let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
    let first = try #require(
      try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any])
    // Both classes are mistaken for the other at first.
    #expect(first["accuracy"] as? Double == 0)
    #expect(end["accuracy"] as? Double == 1 && end["validation_accuracy"] as? Double == 1)
    let losses = try #require([first["loss"], end["loss"]] as? [Double])
    #expect(losses[1] < losses[0] / 2)
    // The model that is written takes rows of any length still.
    let read = try ONNXModel(try MappedFile(tuned))
    let logits = try run(read, ["x": floats([2, 3], [-1, -1, -1, 1, 1, 1])])["logits"]!.doubles
    #expect(logits[0] > logits[1] && logits[2] < logits[3])
  }

  @Test func accuracyIsOfClassesAlone() throws {
    let tuned = try FineTuning(.meanSquaredError).module(classifier, sizes: ["d": 5])
    #expect(tuned.function("loss")?.outputs.map(\.name) == ["loss"])
    let classes = try FineTuning(.crossEntropy).module(classifier, sizes: ["d": 5])
    #expect(classes.function("loss")?.outputs.map(\.name) == ["loss", "accuracy"])
  }

  /// One label for every position: classes lie behind, or in the second axis, as the labels' shape says.
  @Test func labelsOfPositionsFindTheAxisOfClasses() throws {
    let tokens = model(
      [("x", .float32, [.name("n"), .size(3), .size(2)])], ["y"],
      initializers: ["w": floats([2, 4], [1, 0, 0, 0, 0, 1, 0, 0])],
      [node("MatMul", ["x", "w"], ["y"])])
    func labels(_ shape: [Int]) throws -> TensorType? {
      var tuning = FineTuning(.crossEntropy)
      tuning.targetShape = shape
      return try tuning.module(tokens).function("loss")?.inputs.first { $0.name == "target" }?.type
    }
    #expect(try labels([8, 3]) == TensorType(.int64, ["n", 3]))
    #expect(try labels([8, 4]) == TensorType(.int64, ["n", 4]))
    for shape in [[8], [8, 5], [8, 3, 4], []] {
      let error = #expect(throws: DLCError.self) { try labels(shape) }
      #expect(error?.code == .binding && error?.message.contains("float32[n, 3, 4]") == true)
    }
  }

  /// x * w with a batch norm behind it, of two channels that hold the same.
  private func normed(_ attributes: [String: ONNXAttribute], opset: Int) -> ONNXModel {
    model(
      opset: opset, [("x", .float32, [.name("n"), .size(1)])], ["y"],
      initializers: [
        "w": floats([1, 2], [2, 2]), "scale": floats([2], [1, 1]), "shift": floats([2], [0, 0]),
        "mean": floats([2], [1, 1]), "variance": floats([2], [4, 4]),
      ],
      [
        node("MatMul", ["x", "w"], ["z"]),
        node(
          "BatchNormalization", ["z", "scale", "shift", "mean", "variance"], ["y"],
          attributes),
      ])
  }

  /// The batch's own statistics normalise, and the stored ones move to them by the momentum.
  @Test(arguments: [9, 13, 15]) func runningStatisticsMove(opset: Int) throws {
    var tuning = FineTuning(.meanSquaredError)
    tuning.updatesStatistics = true
    let model = normed(["momentum": .float(0.75)], opset: opset)
    let module = try tuning.module(model)
    #expect(module.states.filter(\.isParameter).map(\.name).sorted() == ["scale", "shift", "w"])
    let states = Dictionary(uniqueKeysWithValues: module.states.map { ($0.name, $0.value!) })
    // z is 2 and 10: mean 6, variance 16, normalised to -1 and 1.
    let (results, updates) = try Interpreter().run(
      module, function: #require(module.function("loss")),
      inputs: ["x": floats([2, 1], [1, 5]), "target": floats([2, 2], [-1, -1, 1, 1])],
      states: states,
      dimensions: ["n": 2])
    #expect(abs(results[0].value.doubles[0]) < 1e-6)
    #expect(updates["mean"]?.doubles == [2.25, 2.25])
    #expect(updates["variance"]?.doubles == [7, 7])
    // What measures, and what is used, takes the stored ones: (2 - 1) / 2 and (10 - 1) / 2.
    let (measured, _) = try Interpreter().run(
      module, function: #require(module.function("loss_evaluation")),
      inputs: ["x": floats([2, 1], [1, 5]), "target": floats([2, 2], [0.5, 0.5, 4.5, 4.5])],
      states: states,
      dimensions: ["n": 2])
    #expect(abs(measured[0].value.doubles[0]) < 1e-4)
    tuning.updatesStatistics = false
    #expect(try tuning.module(model).function("loss")?.graph.updates.isEmpty == true)
  }

  @Test func statisticsThatAreNotThereAreAnError() throws {
    var tuning = FineTuning(.crossEntropy)
    tuning.updatesStatistics = true
    let error = #expect(throws: DLCError.self) {
      try tuning.module(classifier, sizes: ["d": 5])
    }
    #expect(error?.message.contains("no batch norm") == true)
  }

  /// From a model to a graph with a loss, trained on, measured, and to a model again.
  @Test func trainedGraphsBecomeModelsAgain() throws {
    let folder = try ONNXCommandTests.Folder()
    let data = try folder.write(Self.rows(16), as: "train.npz")
    let file = try folder.write(normed(["momentum": .float(0.5)], opset: 15), as: "n.onnx")
    let numbers = try folder.write(
      [
        ("x", floats([4, 1], [1, 2, 3, 4])), ("target", floats([4, 2], [0, 0, 1, 1, 0, 0, 1, 1])),
      ], as: "n.npz")
    let (pb, onnx) = ("\(folder.path)/t.pb", "\(folder.path)/t.onnx")
    let loss = ["--loss", "mean-squared-error", "--data", numbers]
    for arguments in [
      ["train", file, "--epochs", "2", "--batch", "4", "--update-statistics", "-o", pb] + loss,
      ["train", pb, "--data", numbers, "--epochs", "1", "--batch", "4", "-o", onnx],
      ["evaluate", pb, "--data", numbers], ["evaluate", onnx] + loss,
    ] {
      let made = try folder.dlc(arguments)
      #expect(made.status == 0, "\(arguments): \(made.error)")
      if arguments[0] == "evaluate" { #expect(made.out.hasPrefix("loss ")) }
    }
    // A model that is written keeps the statistics that moved.
    let tuned = "\(folder.path)/tuned.onnx"
    #expect(
      try folder.dlc(
        ["train", file, "--epochs", "1", "--batch", "4", "--update-statistics", "-o", tuned] + loss
      ).status == 0)
    let mean = try ONNXModel(try MappedFile(tuned)).graph.initializers["mean"]?.value?.doubles
    #expect(mean == [3, 3])
    // What cannot be written is said before anything is trained, and an array that is missing by its name.
    let pooled = model(
      [("x", .float32, [.name("n"), .size(1)])], ["y"],
      initializers: [
        "w": floats([1, 2], [2, 2]), "one": integers([1], [1]),
        "c": floats([1, 1, 40, 40], [Double](repeating: 1, count: 1600)),
      ],
      [
        node("MatMul", ["x", "w"], ["z"]),
        node("LpPool", ["c"], ["l"], ["kernel_shape": .integers([40, 40])]),
        node("Reshape", ["l", "one"], ["r"]), node("Add", ["z", "r"], ["y"]),
      ])
    let pools = try folder.write(pooled, as: "p.onnx")
    #expect(
      try folder.dlc(["train", pools, "--epochs", "1", "--batch", "4", "-o", pb] + loss).status == 0
    )
    let refused = try folder.dlc("train", pb, "--data", numbers, "--batch", "4", "-o", onnx)
    #expect(refused.status == 1 && !refused.error.contains("step"), "\(refused.error)")
    #expect(refused.error.contains("keeps weights and graph"), "\(refused.error)")
    let missing = try folder.dlc(
      "train", file, "--loss", "mean-squared-error", "--target", "t", "--data", data)
    #expect(missing.status == 1 && missing.error.contains("--target"), "\(missing.error)")
  }

  /// An accuracy is the better the greater it is; what is watched else, the smaller.
  @Test func theBestIsWhatTheMetricMeans() throws {
    let folder = try ONNXCommandTests.Folder()
    let file = try folder.write(classifier)
    let data = try folder.write(Self.rows(16), as: "train.npz")
    for (metric, goal) in [("accuracy", "greatest"), ("loss", "least")] {
      let made = try folder.dlc(
        "train", file, "--loss", "cross-entropy", "--data", data, "--validation", data,
        "--epochs", "2", "--batch", "8", "--best", metric, "-o", "\(folder.path)/t.safetensors")
      #expect(made.status == 0 && made.error.contains("the \(goal) \(metric)"), "\(made.error)")
    }
  }

  /// A layer of one output has a bias of one element. Scalars, and what nodes hold, are no weights.
  @Test func weightsOfOneElementAreTrained() throws {
    let regression = model(
      [("x", .float32, [.name("n"), .size(2)])], ["y"],
      initializers: [
        "w": floats([2, 1], [1, 1]), "b": floats([1], [0]), "half": floats([], [0.5]),
      ],
      [
        node("MatMul", ["x", "w"], ["z"]), node("Add", ["z", "b"], ["s"]),
        node("Constant", [], ["epsilon"], ["value_floats": .floats([1e-5])]),
        node("Mul", ["s", "s"], ["q"]), node("Add", ["q", "epsilon"], ["e"]),
        node("Div", ["e", "half"], ["y"]),
      ])
    let tuned = try FineTuning(.meanSquaredError).module(regression)
    #expect(tuned.states.map(\.name).sorted() == ["b", "w"])
    // For what is run it stays a number of the graph.
    #expect(try regression.module().states.map(\.name) == ["w"])
  }

  @Test func whatIsFrozenStays() throws {
    let folder = try ONNXCommandTests.Folder()
    let file = try folder.write(normed(["momentum": .float(0.5)], opset: 15))
    let data = try folder.write(
      [
        ("x", floats([4, 1], [1, 2, 3, 4])), ("target", floats([4, 2], [0, 0, 1, 1, 0, 0, 1, 1])),
      ])
    let tuned = "\(folder.path)/tuned.onnx"
    let made = try folder.dlc(
      "train", file, "--loss", "mean-squared-error", "--data", data, "--epochs", "1", "--batch",
      "4", "--update-statistics", "--freeze", "mean|scale", "--freeze", "w", "-o", tuned)
    #expect(made.status == 0, "\(made.error)")
    let before = normed([:], opset: 15).graph.initializers.compactMapValues(\.value)
    let after = try ONNXModel(try MappedFile(tuned)).graph.initializers.compactMapValues(\.value)
    let changed = before.keys.filter { before[$0] != after[$0] }
    #expect(changed.sorted() == ["shift", "variance"])
    let error = try folder.dlc(
      "train", file, "--loss", "mean-squared-error", "--data", data, "--freeze", "w", "--freeze",
      "nothing", "-o", tuned
    ).error
    #expect(error.contains("--freeze 'nothing'"), "\(error)")
  }

  /// A file that was exported for training is tuned by its stored statistics, unless these are to move.
  @Test func storedStatisticsNormalise() throws {
    for opset in [9, 15] {
      let file = normed(["training_mode": .integer(1)], opset: opset)
      let module = try FineTuning(.meanSquaredError).module(file)
      let states = Dictionary(uniqueKeysWithValues: module.states.map { ($0.name, $0.value!) })
      let (results, _) = try Interpreter().run(
        module, function: #require(module.function("loss")),
        inputs: ["x": floats([2, 1], [1, 5]), "target": floats([2, 2], [0.5, 0.5, 4.5, 4.5])],
        states: states, dimensions: ["n": 2])
      #expect(abs(results[0].value.doubles[0]) < 1e-4)
    }
  }

  /// The cross-entropy of probabilities that a Softmax gives is that of its logits.
  @Test func probabilitiesAreNotTakenForLogits() throws {
    var open = classifier
    open.graph.nodes.append(node("Softmax", ["logits"], ["p"]).at(21))
    open.graph.outputs = [ONNXValueInfo(name: "p", elementType: .float32)]
    var losses: [[Double]] = []
    for model in [classifier, open] {
      let module = try FineTuning(.crossEntropy).module(model, sizes: ["d": 5])
      let states = Dictionary(uniqueKeysWithValues: module.states.map { ($0.name, $0.value!) })
      let (results, _) = try Interpreter().run(
        module, function: #require(module.function("loss")),
        inputs: Dictionary(uniqueKeysWithValues: Self.rows(4)), states: states,
        dimensions: ["n": 4, "d": 5])
      losses.append(results.map(\.value.doubles[0]))
    }
    #expect(losses[0] == losses[1])
  }

  /// Weights that lie beside the file are in the one that is written.
  @Test func weightsOfOtherFilesAreWritten() throws {
    let folder = try ONNXCommandTests.Folder()
    // Large enough to lie beside the file.
    let wide = model(
      [("x", .float32, [.name("n"), .size(5)])], ["logits"],
      initializers: [
        "w": floats([5, 300], (0..<1500).map { Double($0 % 7) * 0.1 }),
        "shift": floats([300], (0..<300).map { Double($0 % 5) }),
      ],
      [node("MatMul", ["x", "w"], ["product"]), node("Add", ["product", "shift"], ["logits"])])
    let external = ModelWriter.ExternalTensors("w.data")
    let bytes = ModelWriter(external: external).encode(wide.graph, opset: 21, producer: "")
    #expect(external.order.count == 2)
    let parts = external.order.map { (external.places[$0.name]!.offset, $0.tensor) }
    let files = ModelExport.Files(model: bytes, tensors: (name: "w.data", parts: parts))
    try files.write(to: "\(folder.path)/m.onnx")
    let data = try folder.write(Self.rows(16))
    let made = try folder.dlc(
      "train", "\(folder.path)/m.onnx", "--loss", "cross-entropy", "--data", data, "--epochs",
      "1", "--batch", "4", "--freeze", "shift", "-o", "\(folder.path)/tuned.onnx")
    #expect(made.status == 0, "\(made.error)")
    try FileManager.default.removeItem(atPath: "\(folder.path)/w.data")
    let tuned = try ONNXModel(try MappedFile("\(folder.path)/tuned.onnx")).graph.initializers
    #expect(tuned["w"]?.value != wide.graph.initializers["w"]?.value)
    #expect(tuned["shift"]?.value == wide.graph.initializers["shift"]?.value)
  }

  /// Dropout is in what is trained, and neither in what measures nor in what is used.
  @Test func dropoutIsOfTrainingAlone() throws {
    var dropping = classifier
    dropping.graph.initializers["live"] = ONNXTensor(
      name: "live", elementType: .bool, value: Tensor(.bool, [], truncating: [1]))
    dropping.graph.nodes[1].inputs[0] = "dropped"
    dropping.graph.nodes.insert(
      node("Dropout", ["mean", "", "live"], ["dropped"]).at(21), at: 1)
    #expect(dropping.isForTraining && !classifier.isForTraining)
    let module = try FineTuning(.crossEntropy).module(dropping, sizes: ["d": 5])
    func inputs(_ name: String) -> [String]? { module.function(name)?.inputs.map(\.name).sorted() }
    #expect(inputs("forward") == ["x"])
    #expect(inputs("loss_evaluation") == ["target", "x"])
    #expect(inputs("loss") == ["seed", "target", "x"])
    // A batch norm in training mode is another file for training, and none that measures is needed for it.
    let training = normed(["training_mode": .integer(1)], opset: 15)
    #expect(training.isForTraining && !normed([:], opset: 15).isForTraining)
  }

  /// One number for each row, as it is or with an axis of one element; yes and no of a Sigmoid's operand.
  @Test func targetsMayLeaveOutAxesOfOneElement() throws {
    let one = model(
      [("x", .float32, [.name("n"), .size(2)])], ["y"],
      initializers: ["w": floats([2, 1], [1, 1])],
      [node("MatMul", ["x", "w"], ["z"]), node("Sigmoid", ["z"], ["y"])])
    func loss(_ kind: FineTuning.Loss, _ model: ONNXModel, _ target: Tensor) throws -> Double {
      var tuning = FineTuning(kind)
      tuning.targetShape = target.shape
      let module = try tuning.module(model)
      let states = Dictionary(uniqueKeysWithValues: module.states.map { ($0.name, $0.value!) })
      return try Interpreter().run(
        module, function: #require(module.function("loss")),
        inputs: ["x": floats([2, 2], [1, 2, -1, 0.5]), "target": target], states: states,
        dimensions: ["n": 2]
      ).outputs[0].value.doubles[0]
    }
    let wanted = (log1p(exp(-3.0)) + log1p(exp(-0.5))) / 2
    for shape in [[2], [2, 1]] {
      #expect(abs(try loss(.binaryCrossEntropy, one, floats(shape, [1, 0])) - wanted) < 1e-6)
      #expect(try loss(.meanSquaredError, one, floats(shape, [1, 0])) < 0.1)
    }
    #expect(throws: DLCError.self) {
      try loss(.meanSquaredError, one, floats([2, 2], [1, 0, 1, 0]))
    }
    let error = #expect(throws: DLCError.self) {
      try loss(.crossEntropy, one, integers([2], [0, 0]))
    }
    #expect(error?.remedy.contains("binary-cross-entropy") == true)
    let two = model(
      [("x", .float32, [.name("n"), .size(2)])], ["y"],
      initializers: ["w": floats([2, 2], [1, 0, 0, 1])], [node("MatMul", ["x", "w"], ["y"])])
    let plain = try loss(.crossEntropy, two, integers([2], [0, 1]))
    #expect(try loss(.crossEntropy, two, integers([2, 1], [0, 1])) == plain)
  }
}
