import DLCFormats
package import DLCTensor

/// Windows of a text for models that predict the next character: `x` has rows of so many characters, `y`
/// the character after each of them. A row begins where the one before ends; what is left at the end of
/// a part is left out, as is the last character of it in `x`.
///
/// The numbers of the characters are places in `alphabet`, an int32 array of Unicode scalars in ascending
/// order, which the file holds too. Windows of bytes are the bytes themselves, and there is no alphabet.
package struct TextWindows {
  package enum Alphabet: Sendable {
    /// Every scalar that occurs.
    case all
    /// The line feed and the characters from space to `~` that occur; everything else becomes `?`.
    case ascii
    /// No text: the bytes of the file.
    case bytes
    /// That of another file; a character beyond it is an error.
    case given([Int32])
  }

  package enum Division: Sendable {
    /// By characters, in order.
    case plain(Split)
    /// Blocks of so many characters; those to test on are chosen as rows are.
    case blocks(Int, Split)
    /// Every so-manieth block of so many characters is held back.
    case every(Int, block: Int)
  }

  package struct Options: Sendable {
    package var window = 64
    package var alphabet = Alphabet.all
    package var division = Division.plain(.whole)
    package var names = (x: "x", y: "y")

    package init() {}
  }

  private let input: InputBytes
  private let options: Options
  /// The scalars of the alphabet; empty for bytes.
  package private(set) var alphabet: [Int32] = []
  /// How many characters the text has.
  package private(set) var count = 0
  /// How many characters became `?`.
  package private(set) var replaced = 0
  /// The number of each scalar.
  private var codes: [UInt32] = []

  /// Looks through a text once, for its length and its alphabet.
  /// - Throws: `.file` when it cannot be read; `.format`, naming line and column, for what is no UTF-8 or no
  ///   text; `.usage` for a character that the given alphabet has not.
  package init(_ path: String, _ options: Options) throws(DLCError) {
    input = try InputBytes(path)
    self.options = options
    guard !input.bytes.isEmpty else { throw DLCError(.format, "the file is empty", at: path) }
    if case .bytes = options.alphabet {
      count = input.bytes.count
      return
    }
    var occurs = [Bool](repeating: false, count: Self.scalars)
    if case .given(let scalars) = options.alphabet {
      for scalar in scalars where scalar >= 0 && scalar < Self.scalars {
        occurs[Int(scalar)] = true
      }
    }
    let highest = Int(try look(&occurs))
    alphabet = occurs.indices.prefix(highest + 1).filter { occurs[$0] }.map { Int32($0) }
    codes = [UInt32](repeating: 0, count: highest + 1)
    for (code, scalar) in alphabet.enumerated() { codes[Int(scalar)] = UInt32(code) }
    if case .ascii = options.alphabet {
      for scalar in codes.indices where !Self.isPlain(UInt32(scalar)) {
        codes[scalar] = codes[Int(Self.question)]
      }
    }
  }

  private static let scalars = 0x110000
  private static let question = UInt32(UInt8(ascii: "?"))

  private static func isPlain(_ scalar: UInt32) -> Bool {
    scalar == 10 || scalar >= 32 && scalar <= 126
  }

  /// - Returns: the highest scalar of the text and the alphabet.
  private mutating func look(_ occurs: inout [Bool]) throws(DLCError) -> UInt32 {
    func bad(_ code: DLCError.Code, _ what: String, _ offset: Int, _ remedy: String) -> DLCError {
      let place = input.place(of: offset)
      return DLCError(
        code, what, at: "\(input.path), line \(place.line), column \(place.column)", remedy: remedy)
    }
    var (isLenient, isClosed) = (false, false)
    if case .ascii = options.alphabet { isLenient = true }
    if case .given = options.alphabet { isClosed = true }
    var highest: UInt32 = isClosed ? UInt32(occurs.lastIndex(of: true) ?? 0) : 0
    // A question mark stands for what is not in the alphabet.
    if isLenient { highest = Self.question }
    var scanner = UTF8Scanner(input.bytes)
    while let scalar = scanner.next() {
      count += 1
      highest = max(highest, scalar)
      if scalar == 0 {
        throw bad(
          .format, "this is not text: there is a zero byte", scanner.start,
          "--bytes takes any file")
      }
      if isLenient {
        let plain = Self.isPlain(scalar)
        if !plain { replaced += 1 }
        occurs[Int(plain ? scalar : Self.question)] = true
        continue
      }
      if scanner.isBroken {
        throw bad(
          .format, "the text is not UTF-8", scanner.start,
          "convert it, as with iconv -t UTF-8; --alphabet ascii puts '?' there, --bytes takes any file"
        )
      }
      if isClosed {
        guard occurs[Int(scalar)] else {
          throw bad(
            .usage,
            "the alphabet has no \(Self.name(scalar))",
            scanner.start, "take the alphabet of a file that has it, or replace it")
        }
      } else {
        occurs[Int(scalar)] = true
      }
    }
    return highest
  }

  private static func name(_ scalar: UInt32) -> String {
    let hexadecimal = String(scalar, radix: 16, uppercase: true)
    let code = "U+" + String(repeating: "0", count: max(0, 4 - hexadecimal.count)) + hexadecimal
    return scalar > 32 ? "'\(Unicode.Scalar(scalar).map(String.init) ?? "")' (\(code))" : code
  }

  /// The type of the windows: the smallest unsigned one that holds the alphabet.
  package var type: DataType {
    alphabet.count <= 256 ? .uint8 : alphabet.count <= 65536 ? .uint16 : .uint32
  }

  /// The ranges of characters of each part.
  private func parts() throws(DLCError) -> (train: [Range<Int>], test: [Range<Int>])? {
    func blocks(_ size: Int) -> Int { (count - 1) / size + 1 }
    func characters(_ blocks: [Range<Int>], _ size: Int) -> [Range<Int>] {
      blocks.map { $0.lowerBound * size..<min(count, $0.upperBound * size) }
    }
    switch options.division {
    case .plain(let split): return try split.parts(of: count, "characters")
    case .blocks(let size, let split):
      guard let (train, test) = try split.parts(of: blocks(size), "blocks of \(size) characters")
      else { return nil }
      return (characters(train, size), characters(test, size))
    case .every(let period, let size):
      let marks = (0..<blocks(size)).map { $0 % period == period - 1 }
      return (
        characters(Split.runs(marks, false), size), characters(Split.runs(marks, true), size)
      )
    }
  }

  /// Writes the parts, and reads the text once for `x` and once for `y` of all of them.
  /// - Throws: `.usage` when a part has no window, `.file` when a file cannot be written.
  package func write(_ name: String) throws(DLCError) -> [Dataset.File] {
    let paths = Dataset.paths(name)
    let parts = try parts()
    let division: [(ranges: [Range<Int>], path: String)] =
      parts.map { [($0.train, paths.train), ($0.test, paths.test)] } ?? [([0..<count], paths.whole)]
    let window = options.window
    var files: [(ranges: [Range<Int>], rows: Int, writer: NpzWriter)] = []
    var written: [Dataset.File] = []
    for (ranges, path) in division {
      let total = ranges.reduce(0) { $0 + $1.count }
      let rows = (total - 1) / window
      guard total > window else {
        throw DLCError(
          .usage,
          "there is no window of \(window) and one more in the \(total) characters for '\(path)'",
          at: input.path, remedy: "take a smaller window, smaller blocks or a longer text")
      }
      let type = TensorType(self.type, sizes: [rows, window])
      var arrays = [(options.names.x, type), (options.names.y, type)]
      if !alphabet.isEmpty {
        arrays.append(("alphabet", TensorType(.int32, sizes: [alphabet.count])))
      }
      files.append((ranges, rows, try NpzWriter(path)))
      written.append(Dataset.File(path: path, arrays: arrays))
    }
    for (name, skip) in [(options.names.x, 0), (options.names.y, 1)] {
      var streams: [Stream] = []
      for (ranges, rows, writer) in files {
        try writer.begin(name, type, [rows, window])
        streams.append(Stream(writer, ranges, skip: skip, count: rows * window, type.byteCount))
      }
      try send(to: streams)
    }
    for (_, _, writer) in files {
      if !alphabet.isEmpty { try writer.add("alphabet", Tensor([alphabet.count], alphabet)) }
    }
    for (_, _, writer) in files { try writer.commit() }
    return written
  }

  /// Hands each character's number to the part that it belongs to.
  private func send(to streams: [Stream]) throws(DLCError) {
    if case .bytes = options.alphabet {
      for stream in streams {
        for range in stream.ranges {
          try stream.take(UnsafeRawBufferPointer(rebasing: input.bytes[range]))
        }
        try stream.flush()
      }
      return
    }
    // The ranges of all parts in order of their characters.
    let order = streams.flatMap { stream in stream.ranges.map { ($0, stream) } }
      .sorted { $0.0.lowerBound < $1.0.lowerBound }
    var scanner = UTF8Scanner(input.bytes)
    try codes.withUnsafeBufferPointerTyped { (codes) throws(DLCError) in
      for (range, stream) in order {
        for _ in range {
          guard let scalar = scanner.next() else { break }
          // A text that is changed meanwhile may have others; it has no right numbers any more.
          try stream.take(Int(scalar) < codes.count ? codes[Int(scalar)] : 0)
        }
      }
    }
    for stream in streams { try stream.flush() }
  }

  /// One array that is being written.
  private final class Stream {
    let writer: NpzWriter
    let ranges: [Range<Int>]
    private var skip: Int
    private var left: Int
    private let width: Int
    private let buffer: TensorStorage
    private var filled = 0

    init(_ writer: NpzWriter, _ ranges: [Range<Int>], skip: Int, count: Int, _ width: Int) {
      (self.writer, self.ranges, self.skip, left, self.width) = (writer, ranges, skip, count, width)
      buffer = TensorStorage(byteCount: 1 << 18)
    }

    func take(_ code: UInt32) throws(DLCError) {
      if skip > 0 {
        skip -= 1
        return
      }
      guard left > 0 else { return }
      left -= 1
      switch width {
      case 1: buffer.bytes[filled] = UInt8(truncatingIfNeeded: code)
      case 2:
        buffer.bytes.storeBytes(
          of: UInt16(truncatingIfNeeded: code), toByteOffset: filled, as: UInt16.self)
      default: buffer.bytes.storeBytes(of: code, toByteOffset: filled, as: UInt32.self)
      }
      filled += width
      if filled == buffer.bytes.count { try flush() }
    }

    /// Takes bytes that are their own numbers.
    func take(_ bytes: UnsafeRawBufferPointer) throws(DLCError) {
      let first = min(skip, bytes.count)
      skip -= first
      let size = min(left, bytes.count - first)
      left -= size
      try writer.write(UnsafeRawBufferPointer(rebasing: bytes[first..<first + size]))
    }

    func flush() throws(DLCError) {
      try writer.write(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<filled]))
      filled = 0
    }
  }
}

/// Scalars of UTF-8, one after the other. What is broken gives U+FFFD once for each longest piece that
/// could have begun a scalar, as the Unicode Standard recommends (chapter 3.9).
package struct UTF8Scanner {
  private let bytes: UnsafeRawBufferPointer
  private var position = 0
  /// Where the last scalar began.
  package private(set) var start = 0
  /// Whether the last one stands for bytes that are no UTF-8.
  package private(set) var isBroken = false

  /// A byte order mark at the beginning is no part of the text.
  package init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { position = 3 }
  }

  package mutating func next() -> UInt32? {
    guard position < bytes.count else { return nil }
    start = position
    isBroken = false
    let first = bytes[position]
    position += 1
    if first < 0x80 { return UInt32(first) }
    // How many bytes follow, and what the first of them may be (table 3-7).
    let (count, low, high): (Int, UInt8, UInt8)
    switch first {
    case 0xc2...0xdf: (count, low, high) = (1, 0x80, 0xbf)
    case 0xe0: (count, low, high) = (2, 0xa0, 0xbf)
    case 0xed: (count, low, high) = (2, 0x80, 0x9f)
    case 0xe1...0xef: (count, low, high) = (2, 0x80, 0xbf)
    case 0xf0: (count, low, high) = (3, 0x90, 0xbf)
    case 0xf1...0xf3: (count, low, high) = (3, 0x80, 0xbf)
    case 0xf4: (count, low, high) = (3, 0x80, 0x8f)
    default:
      isBroken = true
      return 0xfffd
    }
    var scalar = UInt32(first) & (0x3f >> UInt32(count))
    for index in 0..<count {
      guard position < bytes.count,
        index == 0
          ? bytes[position] >= low && bytes[position] <= high : bytes[position] & 0xc0 == 0x80
      else {
        isBroken = true
        return 0xfffd
      }
      scalar = scalar << 6 | UInt32(bytes[position] & 0x3f)
      position += 1
    }
    return scalar
  }
}

extension Array {
  /// `withUnsafeBufferPointer` with a typed error.
  fileprivate func withUnsafeBufferPointerTyped<Failure: Error>(
    _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Void
  ) throws(Failure) {
    let result: Result<Void, Failure> = withUnsafeBufferPointer { elements in
      do throws(Failure) { return .success(try body(elements)) } catch { return .failure(error) }
    }
    try result.get()
  }
}
