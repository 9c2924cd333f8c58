import DLCCompiler
import DLCGraph
import DLCLowering
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Whatever schedule is taken: the same bits.
@Suite struct ScheduleBitsTests {
  static func module() throws -> Module {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.input("x", .float32, [150, 700])
      let w = g.input("w", .float32, [90, 700])
      g.output("y", g.tanh(g.linear(x, w)))
      g.output("softmax", g.softmax(g.matmul(x, g.transpose(w, [1, 0]))))
      let image = g.input("image", .float32, [2, 3, 17, 19])
      g.output("c", g.relu(g.convolution(image, g.input("k", .float32, [8, 3, 3, 3]))))
      let map = g.input("map", .float32, [2, 32, 14, 14])
      let kernel = g.input("kernel", .float32, [48, 32, 3, 3])
      g.output("transformed", g.relu(g.convolution(map, kernel, padding: [(1, 1), (1, 1)])))
      let last = ConvolutionDimensions.channelsLast(spatial: 2)
      let pixels = g.transpose(map, [0, 2, 3, 1]) * 1.5
      let near = g.convolution(
        pixels, g.input("near", .float32, [3, 3, 32, 48]), dimensions: last)
      g.output("near", g.relu(near))
      g.output(
        "far",
        g.relu(
          g.convolution(
            pixels, g.input("far", .float32, [3, 5, 32, 40]), strides: [2, 1], dimensions: last)))
      let each = g.input("each", .float32, [3, 3, 1, 32])
      g.output("each", g.tanh(g.convolution(pixels, each, groups: 32, dimensions: last)))
      let a = g.input("a", .int8, [40, 70])
      g.output(
        "i",
        g.dotGeneral(
          a, g.input("b", .uint8, [70, 50]), lhsContracting: [1], rhsContracting: [0], into: .int32)
      )
    }
    return module
  }

  @Test func schedulesKeepBits() throws {
    let module = try Self.module()
    let inputs = module.functions[0].inputs
    let arrays = Differential.arrays(inputs.map(\.type), range: -1...1, seed: 5)
    let given = Dictionary(uniqueKeysWithValues: zip(inputs.map(\.name), arrays))
    let compiler = Objects.compiler()
    let build = try compiler.build(module, function: nil, dimensions: [:])
    let want = try build.executable.run(given)
    var problems: Set<Problem> = []
    build.plan.forEach { problems.insert($0.problem) }
    var taken = 0
    for problem in problems {
      for candidate in problem.candidates(build.target) where candidate.obstacle == nil {
        var book = ScheduleBook()
        book.add(candidate.schedule, for: problem)
        var other = compiler
        other.options.schedules = book
        let got = try other.build(module, function: nil, dimensions: [:]).executable.run(given)
        for (a, b) in zip(got, want) { #expect(a.value == b.value, "\(a.name): \(candidate)") }
        taken += 1
      }
    }
    #expect(taken > 2 * problems.count)
  }
}
