import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import DLCTensor

struct Show: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Shows what is in a model.")

  enum Format: String, ExpressibleByArgument, CaseIterable { case table, text, dot, svg, html }

  @OptionGroup var model: ModelOptions
  @OptionGroup var imports: ImportOptions
  @Option(
    help:
      "A table of what is in it, its text, or a drawing of the function (dot, svg); html: a page with the graph, the kernels and the memory plan."
  )
  var format = Format.table
  @Option(name: .shortAndLong, help: "Write to a file.") var output: String?
  @Flag(help: "The signatures as JSON.") var json = false

  func run() throws {
    let loaded = try LoadedModel(model.model)
    let (module, cut) = try loaded.known(sizes: try model.sizes, imports)
    if model.function != nil { _ = try module.selectFunction(model.function) }
    var result: String
    if let cut, format != .table || json { Console.note(cut) }
    if json {
      result = signatures(module)
    } else {
      switch format {
      case .table:
        result = try overview(module, sizes: try unboundSizes(loaded, module))
        if let cut { result = cut + "\n\n" + result }
        if case .part(_, let contents) = loaded { result = compiled(contents.program) + result }
        if case .program(let contents) = loaded { result = compiled(contents.program) + result }
      case .text: result = module.text
      case .dot: result = try GraphDrawing(module.selectFunction(model.function)).dot
      case .svg: result = try GraphDrawing(module.selectFunction(model.function)).svg
      case .html: result = try page(loaded, module, cut).html
      }
    }
    if let output {
      try OutputFile.write(Array(result.utf8), to: output)
    } else {
      try Console.result(result)
    }
  }

  /// The sizes that are given; of an ONNX model those that its import did not bind.
  private func unboundSizes(_ loaded: LoadedModel, _ module: Module) throws -> [String: Int] {
    let sizes = try model.sizes
    guard loaded.isONNX else { return sizes }
    return sizes.filter { size in module.dimensions.contains { $0.name == size.key } }
  }

  /// A program as it was compiled; of a model what the compiler would make of it here.
  private func page(_ loaded: LoadedModel, _ module: Module, _ cut: String?) throws -> Page {
    switch loaded {
    case .program(let contents), .part(_, let contents):
      let name = contents.program.function
      guard (model.function ?? name) == name, model.dimensions.isEmpty else {
        throw DLCError(
          .usage, "a compiled program is shown as it is: function '\(name)', in its sizes",
          at: model.model, remedy: "leave out --function and --dim, or give the model's .pb")
      }
      return Page(module.function(name), contents.program, of: cut)
    case .module, .onnx:
      let function = try module.selectFunction(model.function)
      let sizes = try module.bind(explicit: try unboundSizes(loaded, module))
      return Page(
        function,
        try Compiler().outline(module, function: function.name, dimensions: sizes), of: cut)
    }
  }

  /// What a program was compiled for; the graph that it carries follows.
  private func compiled(_ program: Program) -> String {
    let ports = (program.inputs + program.outputs).map {
      "\($0.name) \(TensorType(program[$0.buffer].type, sizes: program[$0.buffer].shape))"
    }
    return
      "program of function \(program.function) for \(program.cpu): \(ports.joined(separator: ", "))\n"
      + "arena \(program.arenaText)\nmade from\n\n"
  }

  private func signatures(_ module: Module) -> String {
    func port(_ name: String, _ type: TensorType) -> JSON {
      let shape = type.shape.map { size -> JSON in
        size.constant.map { .integer($0) } ?? .text("\(size)")
      }
      return .object([
        ("name", .text(name)), ("dtype", .text("\(type.dataType)")), ("shape", .list(shape)),
      ])
    }
    let functions = module.functions.map { f -> JSON in
      .object([
        ("name", .text(f.name)), ("inputs", .list(f.inputs.map { port($0.name, $0.type) })),
        ("outputs", .list(f.outputs.map { port($0.name, $0.type) })),
      ])
    }
    return JSON.object([
      ("functions", .list(functions)),
      ("parameters", .list(module.states.map { port($0.name, $0.type) })),
      ("dimensions", .object(module.dimensions.map { ($0.name, .integer($0.size)) })),
    ]).description
  }

  private func overview(_ module: Module, sizes explicit: [String: Int]) throws -> String {
    var text = "module \(module.name)\n"
    let sizes = try module.bind(explicit: explicit)
    if !module.dimensions.isEmpty {
      text +=
        "dimensions  "
        + module.dimensions.map { "\($0.name)=\(sizes[$0.name]!)" }.joined(separator: " ") + "\n"
    }
    if !module.states.isEmpty {
      var count = 0
      for state in module.states {
        count += try state.type.shape.reduce(1) { try $0 * $1.evaluate(sizes) }
      }
      text +=
        "\n"
        + table(
          [["state", "type", "initialiser", "value"]]
            + module.states.map {
              [
                $0.name, "\($0.type)", $0.initializer.encoded.name,
                $0.value == nil ? "-" : "stored",
              ]
            })
      text += "\n\(counted(count, "element"))\n"
    }
    if let recipe = module.recipe, model.function == nil {
      text += "\nrecipe\n\(recipe.text(indent: "  "))"
    }
    for function in module.functions where model.function == nil || function.name == model.function
    {
      let bound = try function.graph.bound(to: sizes)
      text += "\nfunction \(function.name)\n"
      text += table(
        function.inputs.map { ["  input", $0.name, "\($0.type)"] }
          + function.outputs.map { ["  output", $0.name, "\($0.type)"] })
      let bytes = bound.types.indices.dropFirst(bound.arguments.count).reduce(0) {
        $0 + bound.types[$1].byteCount
      }
      text +=
        "\n  \(counted(bound.nodes.count, "operation")), \(fixed(Double(bound.work.flops) / 1e6, 3)) MFLOP, \(size(bytes)) of intermediate values\n  "
      var counts: [String: Int] = [:]
      for node in bound.nodes { counts[node.operation.mnemonic, default: 0] += 1 }
      text +=
        counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \($0.value)" }
        .joined(separator: ", ") + "\n"
    }
    return text
  }
}
