import DLCCompiler
import DLCFormats
import DLCGraph
import DLCKernel
import DLCLowering
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// What `dlc compile --emit kernels` says.
@Suite struct KernelExplanationTests {
  private static func build(
    _ module: Module, _ function: String? = nil, _ options: CompilerOptions = CompilerOptions()
  ) throws -> Build {
    try Compiler(options).build(module, function: function, dimensions: [:])
  }

  private static func graph(_ name: String) throws -> Module {
    try Module(contentsOf: "\(DigitsTests.folder)/\(name).pb")
  }

  /// Of each kernel its name and its lines.
  private static func explained(_ build: Build) -> [(name: String, lines: [String])] {
    let explanation = KernelExplanation(build.plan, build.target)
    return build.kernels.map {
      ($0.name, explanation.lines(of: $0, sections: build.sections[$0.name] ?? []))
    }
  }

  @Test(arguments: ["digits_cnn", "examples/char_gru", "equations/architectures/maxpool2d"])
  func everyKernelIsExplained(_ name: String) throws {
    let module = try Self.graph(name)
    for function in module.functions {
      let build = try Self.build(module, function.name)
      for (kernel, lines) in Self.explained(build) {
        let text = lines.joined(separator: "\n")
        let isWhole = ["fuses ", "stores %", "problem ", "takes ", "why: "].allSatisfy(
          text.contains)
        #expect(isWhole || text.contains("prepares what the last"), "\(kernel): \(text)")
        #expect(!text.contains("of no region"), "\(kernel)")
      }
    }
  }

  @Test func fusedNodesAreNamed() throws {
    let build = try Self.build(try Self.graph("digits_cnn"))
    let all = Self.explained(build)
    let fused = all.flatMap(\.lines).compactMap { line -> Int? in
      let words = line.split(separator: " ")
      return words.count == 3 && words[0] == "fuses" ? Int(words[1]) : nil
    }
    #expect(fused.reduce(0) { $0 + $1 - 1 } == build.plan.fusedNodes)
    let convolution = try #require(all.first { $0.name.contains("convolution") }).lines
    let members = convolution.filter { $0.hasPrefix("  %") }.map { $0.split(separator: " ")[2] }
    #expect(members == ["convolution", "add", "maximum"])
    #expect(convolution.contains("ends: reduce_window reads each element several times"))
    #expect(convolution.contains { $0.hasPrefix("reads %") && $0.contains("state 'K1'") })
    #expect(convolution.contains { $0.contains("of region 0, which ends there: boxes are copied") })
  }

  @Test func theChoiceIsPricedBesideOthers() throws {
    var module = Module("product")
    try module.function("forward") { g in
      g.output(
        "y", g.matmul(g.input("x", .float32, [240, 512]), g.state("W", .float32, [512, 512])))
    }
    var options = CompilerOptions()
    options.target = "x86-64-v3"
    let build = try Self.build(module, nil, options)
    let lines = try #require(
      Self.explained(build).first { $0.name.contains("product") }
    ).lines
    let part = try #require(build.plan.regions.first)
    #expect(lines.contains("takes \(part.schedule.text)"))
    let why = try #require(lines.firstIndex { $0.hasPrefix("why: the cheapest of ") })
    let next = lines[(why + 1)...].filter { $0.contains(" times with ") && !$0.hasPrefix("  not") }
    let ratios = next.compactMap { Double($0.split(separator: " ")[0]) }
    #expect(ratios.count == 3 && ratios == ratios.sorted() && ratios[0] >= 1)
    #expect(
      lines.contains {
        $0.hasPrefix("  not ") && $0.contains("packing \"tile\"")
          && $0.hasSuffix(": an operand that never changes is packed once")
      }, "\(lines)")

    // Another schedule, because a book says so.
    let other = try #require(
      part.problem.candidates(build.target).dropFirst().first { $0.obstacle == nil })
    options.schedules.add(other.schedule, for: part.problem)
    let given =
      try Self.explained(Self.build(module, nil, options))
      .first { $0.name.contains("product") }?.lines ?? []
    #expect(given.contains("takes \(other.schedule.text)"))
    #expect(given.contains { $0.hasPrefix("why: a given schedule says so, ") }, "\(given)")
  }

  @Test func mergedKernelsSayOfWhat() throws {
    var module = Module("updates")
    try module.function("step") { g in
      let x = g.input("x", .float32, [64])
      for name in ["a", "b", "c"] { g.update(name, g.state(name, .float32, [64]) + x) }
    }
    let build = try Self.build(module)
    let merged = try #require(build.sections.keys.first)
    let lines = try #require(Self.explained(build).first { $0.name == merged }).lines
    #expect(lines[0].hasPrefix("merged from 3 kernels"))
    let sections = lines.filter { $0.hasPrefix("section ") }
    #expect(
      Set(build.sections[merged]!)
        == Set(sections.map { $0.split { " ,".contains($0) }[1] }.map(String.init)))
    #expect(lines.contains { $0.contains("as state '") })
  }

  @Test func bodiesHavePaths() throws {
    let lines = Self.explained(try Self.build(try Self.graph("examples/char_gru"), "loss"))
      .flatMap(\.lines)
    #expect(lines.contains { $0.contains("/body/") }, "\(lines.prefix(40))")
  }

  @Test func differencesNameTheDecision() throws {
    let text = "rows {\"kept\":[],\"loops\":[[0]],\"stageUnrolls\":[],\"unroll\":4,\"width\":1}"
    let a = try #require(RegionSchedule(text: text))
    let b = try #require(RegionSchedule(text: text.replacing("\"unroll\":4", with: "\"unroll\":2")))
    #expect(b.difference(from: a) == "unroll 2" && a.difference(from: a) == "the same")
  }
}
