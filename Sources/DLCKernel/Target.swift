package import DLCTensor

/// The machine that kernels are made for.
package struct Target: Hashable, Sendable {
  /// LLVM's triple, CPU name and feature string.
  package let triple: String
  package let cpu: String
  package let featureText: String
  package let architecture: Architecture
  /// The instruction sets among the features that the compiler knows.
  package let features: Set<Feature>
  /// The widest vector, in bytes.
  package let vectorBytes: Int
  /// Vector registers.
  package let registerCount: Int
  /// Multiply-adds of whole vectors that begin in a cycle.
  package let multiplyAddUnits: Int
  package let caches: Caches
  /// How many workers a program will have, as far as is known: what tiles are dealt out to. Results do not
  /// depend on it.
  package let cores: Int

  package enum Architecture: String, Hashable, Sendable { case x86_64, aarch64 }

  /// Instruction sets, in LLVM's spelling.
  package enum Feature: String, Hashable, Sendable, CaseIterable {
    case sse41 = "sse4.1"
    case sse42 = "sse4.2"
    case avx, avx2, fma, f16c, bmi, bmi2, avx512f, avx512bw, avx512dq, avx512vl
    /// Products of four pairs of 8-bit integers, summed into 32 bits.
    case avx512vnni, avxvnni, dotprod, i8mm
    /// Products of pairs of bfloat16, summed into float32.
    case avx512bf16, bf16
    /// Arithmetic of float16.
    case avx512fp16, fullfp16
    case amxInt8 = "amx-int8"
    case amxBFloat16 = "amx-bf16"
    case neon

    /// Whether compiled code may rest on it: the runtime asks the machine for these before it runs a program.
    package var isChecked: Bool {
      switch self {
      case .sse41, .sse42, .avx, .avx2, .fma, .f16c, .bmi, .bmi2, .avx512f, .avx512bw, .avx512dq,
        .avx512vl, .neon:
        true
      default: false
      }
    }
  }

  /// Bytes of data that a core has at hand: of its own, and its share of what cores have together.
  package struct Caches: Hashable, Sendable {
    package var l1: Int
    package var l2: Int
    package var l3: Int
    package init(l1: Int, l2: Int, l3: Int) {
      self.l1 = l1
      self.l2 = l2
      self.l3 = l3
    }

    /// What CPUs of a name have, for code that is made on another machine.
    package init(cpu: String) {
      switch cpu {
      case "znver1", "znver2", "znver3", "x86-64-v3":
        self.init(l1: 32 << 10, l2: 512 << 10, l3: 4 << 20)
      case "znver4": self.init(l1: 32 << 10, l2: 1 << 20, l3: 4 << 20)
      case "znver5": self.init(l1: 48 << 10, l2: 1 << 20, l3: 4 << 20)
      case "skylake-avx512", "cascadelake", "x86-64-v4":
        self.init(l1: 32 << 10, l2: 1 << 20, l3: 1 << 20)
      case "icelake-server": self.init(l1: 48 << 10, l2: 5 << 18, l3: 3 << 19)
      case "sapphirerapids", "emeraldrapids", "graniterapids":
        self.init(l1: 48 << 10, l2: 2 << 20, l3: 2 << 20)
      case "haswell", "broadwell", "skylake": self.init(l1: 32 << 10, l2: 256 << 10, l3: 2 << 20)
      case "neoverse-n1", "neoverse-v1", "neoverse-n2", "neoverse-v2":
        self.init(l1: 64 << 10, l2: 1 << 20, l3: 1 << 20)
      default: self.init(l1: 32 << 10, l2: 512 << 10, l3: 2 << 20)
      }
    }
  }

  /// - Parameters:
  ///   - featureText: LLVM's list, each with + or - in front, separated by commas.
  ///   - caches: those of the machine; what CPUs of the name have by default.
  ///   - cores: workers that a program will have.
  package init(
    triple: String, cpu: String, featureText: String, caches: Caches? = nil, cores: Int = 4
  ) {
    self.cores = max(1, min(cores, 64))
    self.triple = triple
    self.cpu = cpu
    self.featureText = featureText
    self.caches = caches ?? Caches(cpu: cpu)
    architecture = triple.hasPrefix("aarch64") ? .aarch64 : .x86_64
    let present = featureText.split(separator: ",").filter { $0.hasPrefix("+") }
    var features = Set(present.compactMap { Feature(rawValue: String($0.dropFirst())) })
    multiplyAddUnits = 2
    switch architecture {
    case .aarch64:
      features.insert(.neon)
      (vectorBytes, registerCount) = (16, 32)
    case .x86_64:
      if features.isSuperset(of: [.avx512f, .avx512vl, .avx512bw, .avx512dq]) {
        (vectorBytes, registerCount) = (64, 32)
      } else {
        (vectorBytes, registerCount) = (features.contains(.avx2) ? 32 : 16, 16)
      }
    }
    self.features = features
  }

  /// Lanes of an elementwise vector loop: as many float32 as a register holds, whatever the type.
  package var lanes: Int { vectorBytes / 4 }

  /// The register tile of contractions: rows, and columns in vectors.
  package var tile: RegisterTile {
    RegisterTile(rows: registerCount >= 32 ? 12 : 6, vectors: 2)
  }

  /// The register tile of products of few rows: sums beside one another are what hides how long one takes.
  package func tile(rows: Int) -> RegisterTile {
    switch rows {
    case 1: RegisterTile(rows: 1, vectors: 8)
    case 2...4 where registerCount >= 32: RegisterTile(rows: rows, vectors: 4)
    case 2: RegisterTile(rows: 2, vectors: 4)
    default: tile
    }
  }

  /// Whether a b + c is one instruction.
  package var hasMultiplyAdd: Bool { !features.isDisjoint(with: [.fma, .neon]) }

  package func panelWidth(_ type: DataType) -> Int { tile.vectors * vectorBytes / type.byteCount }

  /// The short name of the instruction set, for kernel names.
  package var isa: String {
    switch architecture {
    case .aarch64: "neon"
    case .x86_64: vectorBytes == 64 ? "avx512" : vectorBytes == 32 ? "avx2" : "sse2"
    }
  }
}

/// What a microkernel holds in registers: rows of the result, and columns in whole vectors.
package struct RegisterTile: Hashable, Sendable, Codable {
  package var rows: Int
  package var vectors: Int
  package init(rows: Int, vectors: Int) {
    self.rows = rows
    self.vectors = vectors
  }

  /// Tile heights for a number of rows: whole tiles, then a rest that is never much thinner.
  package func heights(_ total: Int) -> [(height: Int, count: Int)] {
    let (whole, rest) = (total / rows, total % rows)
    if rest == 0 { return [(rows, whole)] }
    if whole == 0 || rest * 2 > rows {
      return whole == 0 ? [(rest, 1)] : [(rows, whole), (rest, 1)]
    }
    let pair = rows + rest
    let upper = (pair + 1) / 2
    var plan: [(Int, Int)] = whole > 1 ? [(rows, whole - 1)] : []
    plan += upper == pair - upper ? [(upper, 2)] : [(upper, 1), (pair - upper, 1)]
    return plan
  }
}
