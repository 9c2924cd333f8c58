import DLC
import Testing

@Suite struct ModelExamples {
  /// A softmax classifier of 4 numbers into 3 classes.
  static func classifier() throws -> Module {
    var module = Module("classifier")
    module.dimension("n", default: 8)
    try module.function("forward", training: false) { g in
      g.output("y", g.softmax(Layers(g).linear("out", g.input("x", .float32, ["n", 4]), 3)))
    }
    try module.phase("loss") { g in
      let logits = Layers(g).linear("out", g.input("x", .float32, ["n", 4]), 3)
      let labels = g.input("y", .int32, ["n"])
      g.output("loss", g.softmaxCrossEntropy(logits, labels))
      g.output("accuracy", g.accuracy(logits, labels))
    }
    return module
  }

  /// Examples whose class is where the largest number is.
  static func arrays(_ count: Int) -> [String: Tensor] {
    let labels = (0..<count).map { Int32($0 % 3) }
    let x = labels.flatMap { label in (0..<4).map { Float($0 == Int(label) ? 3 : 0) } }
    return ["x": Tensor([count, 4], x), "y": Tensor([count], labels)]
  }

  @Test func module() throws {
    // example: DLCGraph/Module.swift: public struct Module
    var module = Module("classifier")
    module.dimension("n", default: 8)
    try module.function("forward", training: false) { g in
      let x = g.input("x", .float32, ["n", 4])
      g.output("y", g.softmax(Layers(g).linear("out", x, 3)))
    }
    let parameters = module.states.map(\.name)  // ["out.w", "out.b"]
    // end
    #expect(parameters == ["out.w", "out.b"])
  }

  @Test func function() throws {
    var module = Module("geometry")
    // example: DLCGraph/ModuleFunctions.swift: public mutating func function(
    try module.function("area") { g in
      g.output("area", g.input("width") * g.input("height"))
    }
    // end
    let executable = try Compiler().compile(module)
    let inputs = ["width": floats([], [2]), "height": floats([], [3])]
    #expect(try executable.run(inputs)[0].value.scalar == 6)
  }

  @Test func phase() throws {
    var module = Module("classifier")
    module.dimension("n", default: 8)
    // example: DLCGraph/ModuleFunctions.swift: public mutating func phase(
    try module.phase("loss") { g in
      let (x, labels) = (g.input("x", .float32, ["n", 4]), g.input("y", .int32, ["n"]))
      let logits = Layers(g).linear("out", x, 3)
      g.output("loss", g.softmaxCrossEntropy(logits, labels))
      g.output("accuracy", g.accuracy(logits, labels))
    }
    let functions = module.functions.map(\.name)  // ["loss", "loss_evaluation"]
    // end
    #expect(functions == ["loss", "loss_evaluation"])
  }

  @Test func compiler() throws {
    let module = try Self.classifier()
    // example: DLCCompiler/Compiler.swift: public struct Compiler
    let executable = try Compiler().compile(module, function: "forward", dimensions: ["n": 2])
    try executable.initializeState(seed: 1)
    let results = try executable.run(["x": Tensor(zeros: .float32, [2, 4])])
    // end
    #expect(results[0].value.shape == [2, 3])
  }

  @Test func executable() throws {
    var module = Module("scale")
    try module.function("scale") { g in
      g.output("y", g.input("x", .float32, [2]) * g.parameter("w", [2]))
    }
    // example: DLCRuntime/Executable.swift: public final class Executable
    let executable = try Compiler().compile(module)
    try executable.setState(["w": Tensor([2, 3], .float32)])
    let results = try executable.run(["x": Tensor([1, 10], .float32)])
    let y = results[0].value.doubles  // [2, 30]
    // end
    #expect(y == [2, 30])
  }

  @Test func tensor() {
    // example: DLCTensor/Tensor.swift: public struct Tensor
    let a = Tensor([[1, 2, 3], [4, 5, 6]], .float32)
    let row = a[1].scalars(Float.self)  // [4, 5, 6]
    let last = a[-1, -1].scalar  // 6
    let b = Tensor([3, 2], a.doubles)  // float64
    // end
    #expect(row == [4, 5, 6])
    #expect(last == 6)
    #expect(b.type == TensorType(.float64, [3, 2]))
  }

  @Test func size() throws {
    // example: DLCTensor/Size.swift: public struct Size
    let width: Size = "(W-k)//2+1"
    let number = try width.evaluate(["W": 28, "k": 3])  // 13
    // end
    #expect(number == 13)
  }

  @Test func error() throws {
    var module = Module("wrong")
    var message = ""
    // example: DLCTensor/DLCError.swift: public struct DLCError
    do {
      try module.function("sum") { g in
        g.output("y", g.input("a", .float32, [3]) + g.input("b", .float32, [4]))
      }
    } catch {
      message = "\(error.code): \(error.message), \(error.location)"
    }
    // end
    #expect(message.contains("do not broadcast together"))
    #expect(message.contains("ModelExamples.swift"))
  }

  @Test func interpreter() throws {
    var module = Module("square")
    module.dimension("n", default: 1)
    try module.function("square") { g in
      let x = g.input("x", .float32, ["n"])
      g.output("y", x * x)
    }
    // example: DLCReference/Interpreter.swift: public struct Interpreter
    let results = try Interpreter(.float64).run(
      module, function: module.functions[0], inputs: ["x": Tensor([3, 4], .float32)], states: [:],
      dimensions: ["n": 2])
    let y = results.outputs[0].value.doubles  // [9, 16]
    // end
    #expect(y == [9, 16])
  }
}
