import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import redis.clients.jedis.Jedis;

/** Prints the parameters of one mirror as JSON: Reader REDIS_URL KEY [FILE_WITH_SUB_KEYS] */
class Reader {
    record Line(String type) {}

    static final Pattern ENC = Pattern.compile("none|(SecureStrings|All):pm1:([a-z0-9-]+)");

    static Map<String, String> read(String url, String key, Map<String, byte[]> subKeys) throws Exception {
        Map<String, String> fields;
        try (Jedis redis = new Jedis(URI.create(url))) {
            fields = redis.hgetAll(key); // one command, so all of it is of one moment
        }
        must(!fields.isEmpty(), "no such hash");
        must("1".equals(fields.get("@format")), "the layout is " + fields.get("@format") + ", not 1");
        Map<String, Line> params = new Gson().fromJson(fields.get("@params"), new TypeToken<Map<String, Line>>() {});
        must(params != null, "no @params");
        must(String.valueOf(params.size()).equals(fields.get("@count")),
                "@count is " + fields.get("@count") + ", but @params names " + params.size());
        var enc = ENC.matcher(fields.getOrDefault("@enc", ""));
        must(enc.matches(), "@enc is " + fields.get("@enc"));
        Map<String, String> values = new TreeMap<>();
        for (String name : params.keySet()) {
            String stored = fields.get(name);
            must(stored != null, name + " is in @params and has no field");
            boolean secure = "SecureString".equals(params.get(name).type());
            boolean encrypted = "All".equals(enc.group(1)) || "SecureStrings".equals(enc.group(1)) && secure;
            values.put(name, encrypted ? open(subKeys.get(enc.group(2)), enc.group(2), key, name, stored) : stored);
        }
        return values;
    }

    static String open(byte[] subKey, String keyId, String key, String name, String stored) throws Exception {
        must(subKey != null, name + " is encrypted with the key " + keyId + ", which is not given");
        must(stored.startsWith("pm1:" + keyId + ":"), name + " is not encrypted with the key " + keyId);
        var bound = new ByteArrayOutputStream();
        for (String part : List.of("pm1", keyId, key, name)) {
            byte[] bytes = part.getBytes(StandardCharsets.UTF_8);
            new DataOutputStream(bound).writeInt(bytes.length);
            bound.write(bytes);
        }
        try {
            byte[] sealed = Base64.getUrlDecoder().decode(stored.split(":", 3)[2]);
            Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
            var nonce = new GCMParameterSpec(128, sealed, 0, 12);
            cipher.init(Cipher.DECRYPT_MODE, new SecretKeySpec(subKey, "AES"), nonce);
            cipher.updateAAD(bound.toByteArray());
            return new String(cipher.doFinal(sealed, 12, sealed.length - 12), StandardCharsets.UTF_8);
        } catch (GeneralSecurityException | IllegalArgumentException error) {
            throw new IllegalStateException(name + " does not decrypt");
        }
    }

    static void must(boolean holds, String why) {
        if (!holds) {
            throw new IllegalStateException(why);
        }
    }

    public static void main(String[] args) {
        try {
            Map<String, byte[]> subKeys = new HashMap<>();
            for (String line : args.length > 2 ? Files.readAllLines(Path.of(args[2])) : List.<String>of()) {
                subKeys.put(line.split(":")[0], Base64.getUrlDecoder().decode(line.split(":")[1]));
            }
            String json = new Gson().toJson(read(args[0], args[1], subKeys)) + "\n";
            System.out.writeBytes(json.getBytes(StandardCharsets.UTF_8));
        } catch (Exception error) {
            System.err.println(args[1] + ": " + error.getMessage());
            System.exit(1);
        }
    }
}
