import DLCGraph
import DLCReference
import DLCTensor
import Testing

@Suite struct ConvolutionTests {
  @Test func samples() throws { try OperatorSamples.check(Convolution.self) }

  /// The text of one convolution, or what is wrong with it.
  static func text(
    _ x: TensorType, _ k: TensorType, _ dimensions: ConvolutionDimensions? = nil,
    into sumType: DataType? = nil
  ) -> String {
    do {
      var module = Module("m")
      try module.function("f") { g in
        let (x, k) = (g.input("x", x.dataType, x.shape), g.input("k", k.dataType, k.shape))
        g.output("y", g.convolution(x, k, dimensions: dimensions, into: sumType))
      }
      return module.text
    } catch { return "\(error)" }
  }

  static func type(_ type: DataType, _ shape: [Size]) -> TensorType { TensorType(type, shape) }

  /// What is usual is left out, so that texts and files of before are those of today.
  @Test func usualDimensionsAreNotWritten() {
    let plain = Self.text(
      Self.type(.float32, [2, 3, 9, 8]), Self.type(.float32, [5, 3, 3, 3]),
      .channelsFirst(spatial: 2))
    #expect(plain.contains("groups = 1} : float32[2, 5, 7, 6]"))
    let last = Self.text(
      Self.type(.uint8, [2, 9, 8, 3]), Self.type(.int8, [3, 3, 3, 5]),
      .channelsLast(spatial: 2), into: .int32)
    #expect(
      last.contains(
        "groups = 1, input_axes = [0, 3, 1, 2], kernel_axes = [3, 2, 0, 1], output_axes = [0, 3, 1, 2], into = int32} : int32[2, 7, 6, 5]"
      ), "\(last)")
  }

  @Test func mistakesAreNamed() {
    let (x, k) = (Self.type(.float32, [2, 3, 9, 8]), Self.type(.float32, [5, 3, 3, 3]))
    let bytes = Self.type(.int8, [5, 3, 3, 3])
    for axes in [[0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4], [-1, 0, 1, 2], []] {
      for list in [\ConvolutionDimensions.input, \.kernel, \.output] {
        var dimensions = ConvolutionDimensions.channelsFirst(spatial: 2)
        dimensions[keyPath: list] = axes
        let found = Self.text(x, k, dimensions)
        #expect(found.contains("does not name each of 4 axes once"), "\(found)")
      }
    }
    let cases: [(String, String)] = [
      (Self.text(x, k, .channelsLast(spatial: 2)), "8 input channels are not 1 groups of 3"),
      (Self.text(x, bytes), "float32 and int8 cannot be convolved"),
      (Self.text(x, bytes, into: .float32), "int8 is summed in int32 or int64, not float32"),
      (Self.text(x, k, into: .int32), "float32 is summed in float32 or float64, not int32"),
      (
        Self.text(bytes, bytes, into: .int8), "summed in float32, float64, int32 or int64, not int8"
      ),
    ]
    for (found, wanted) in cases { #expect(found.contains(wanted), "\(found)") }
  }

  /// Other axes are the same numbers in other places: convolutions of every sample's geometry between
  /// transposes.
  @Test(arguments: [
    ConvolutionDimensions.channelsLast(spatial: 2),
    ConvolutionDimensions(input: [2, 0, 3, 1], kernel: [1, 3, 2, 0], output: [3, 1, 0, 2]),
  ])
  func dimensionsAreTransposes(_ dimensions: ConvolutionDimensions) throws {
    func run(_ x: Tensor, _ k: Tensor, _ geometry: ConvolutionGeometry) throws -> Tensor {
      let convolution = Operation.convolution(Convolution(geometry, into: .int64))
      let types = try convolution.definition.infer([x.type, k.type])
      return convolution.definition.evaluate([ReferenceArray(x), ReferenceArray(k)], types)[0]
        .tensor
    }
    func moved(_ x: Tensor, _ permutation: [Int]) throws -> Tensor {
      let transpose = Operation.transpose(Transpose(permutation))
      let types = try transpose.definition.infer([x.type])
      return transpose.definition.evaluate([ReferenceArray(x)], types)[0].tensor
    }
    func counting(_ shape: [Int]) -> Tensor {
      Tensor(.int32, shape, truncating: (0..<shape.reduce(1, *)).map { Int64($0 * 7 % 31 - 15) })
    }
    var attributes = try AttributeReader(
      [
        Attribute("strides", .integers([2, 1])), Attribute("padding_low", .integers([1, 0])),
        Attribute("padding_high", .integers([2, 1])),
        Attribute("input_dilation", .integers([1, 2])),
        Attribute("kernel_dilation", .integers([2, 1])), Attribute("groups", .integer(2)),
      ], [])
    var geometry = try Convolution(mnemonic: "convolution", &attributes).geometry
    #expect(geometry.dimensions == .channelsFirst(spatial: 2))
    let (x, k) = (counting([2, 4, 6, 5]), counting([6, 2, 2, 3]))
    let want = try run(x, k, geometry)
    geometry.dimensions = dimensions
    // The array whose axis `axes[i]` is axis i of another.
    func placed(_ x: Tensor, _ axes: [Int]) throws -> Tensor {
      try moved(x, Array(axes.indices).placed(axes))
    }
    let got = try run(try placed(x, dimensions.input), try placed(k, dimensions.kernel), geometry)
    #expect(try moved(got, dimensions.output) == want)
    #expect(Set(want.integers).count > 20)
  }
}
